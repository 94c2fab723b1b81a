# The image: one static binary, certificate authorities, nothing else. No shell, no package, no
# user database; runs as any user, with a read-only root and without capabilities.
#
#   docker build -t bearerd .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/bearerd --push .
#   docker run --read-only --cap-drop ALL -v ./bearerd.yaml:/etc/bearerd/bearerd.yaml:ro bearerd
ARG RUST=1.95

# On the builder's own platform, compiling for the wanted one: nothing is emulated.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST}-slim-bookworm AS build
ARG TARGETARCH
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY deploy/build-static deploy/order.ld deploy/
COPY src src
# Tools lie beside the cache, which is another one for each platform.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-${TARGETARCH},target=/src/target \
    binary=$(BEARERD_TOOLS=/opt/tools deploy/build-static "${TARGETARCH:-$(dpkg --print-architecture)}") \
    && cp "$binary" /bearerd

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bearerd" \
      org.opencontainers.image.description="A reverse-proxy sidecar that obtains, renews and injects credentials" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /bearerd /bearerd
# Another bundle can be mounted over this one, or named by SSL_CERT_FILE.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    BEARERD_CONFIG=/etc/bearerd/bearerd.yaml
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 9090
# Liveness, not readiness: an issuer that is down is no reason to restart this.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/bearerd", "health"]
ENTRYPOINT ["/bearerd"]
CMD ["run"]
