// The other way: the page asks Vite at /api, Vite asks bearerd. Then no `cors` is needed: to the
// browser it is all one origin. Leave `changeOrigin` off, so that the `Host` which bearerd sees
// is the origin that the browser names.
import { defineConfig } from "vite";

export default defineConfig({
  server: {
    proxy: {
      "/api": {
        target: "http://127.0.0.1:8080",
        rewrite: (path) => path.replace(/^\/api/, ""),
      },
    },
  },
});
