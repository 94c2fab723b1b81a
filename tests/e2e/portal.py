"""A training portal's OAuth half: Django, django-oauth-toolkit and one protected view, served by waitress.

    python portal.py SETTINGS.json

Token requests and API requests are appended to two logs, one JSON line each, headers as they came.
"""

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

import django
import waitress.channel
import waitress.parser
import waitress.server
from django.conf import settings

given = json.loads(Path(sys.argv[1]).read_text())

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": given["database"],
            "OPTIONS": {"timeout": 20},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    LOGGING={"version": 1, "disable_existing_loggers": False},
    MIDDLEWARE=[f"{__name__}.record_token_requests"],
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": given.get("lifetime", 5),
        "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 24 * 3600,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": given.get("grace", 0),
        "ROTATE_REFRESH_TOKEN": True,
        "PKCE_REQUIRED": False,
        "SCOPES": {"user:info": "User information"},
    },
    # A slow answer makes bearerd renew earlier; the default hashers take half a second here.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this test",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.views import RevokeTokenView  # noqa: E402


class Log:
    def __init__(self, file):
        self.out = open(file, "a", encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, record):
        with self.lock:
            self.out.write(json.dumps(record) + "\n")
            self.out.flush()


token_log = Log(given["token_log"])
request_log = Log(given["request_log"])


def now():
    return int(time.time() * 1000)


def record_token_requests(get_response):
    """Middleware: the token endpoint's log, and the protected view's, whatever it answers."""

    # sqlite refuses to let two transactions that have read become writers; a portal has one robot, this one has two.
    one_writer = threading.Lock()

    def token_request(request):
        arrived = now()
        with one_writer:
            response = get_response(request)
        # A renewal has killed the old access token by now, and nobody knows the new one yet.
        time.sleep(given["answer_delay"])
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = {}
        basic = request.headers.get("Authorization", "").lower().startswith("basic ")
        token_log.write(
            {
                "arrived": arrived,
                "answered": now(),
                "client": request.POST.get("client_id") or ("basic" if basic else None),
                "auth": "basic" if basic else "body" if "client_secret" in request.POST else "none",
                "grant": request.POST.get("grant_type"),
                "status": response.status_code,
                "error": answer.get("error"),
                "access": answer.get("access_token"),
                "used_refresh": request.POST.get("refresh_token"),
                "new_refresh": answer.get("refresh_token"),
            }
        )
        return response

    def withdrawal(request):
        """Logs what the revocation endpoint was asked for; whatever else is under /oauth2/ is nobody's business."""
        response = get_response(request)
        token_log.write({"arrived": now(), "path": request.path, "withdrawn": request.POST.get("token"), "status": response.status_code})
        return response

    def api_request(request):
        arrived = now()
        response = get_response(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        request_log.write(
            {
                "arrived": arrived,
                "route": request.path.split("/")[2],
                "id": request.headers.get("X-Request-Number"),
                "method": request.method,
                "url": request.get_full_path(),
                "headers": json.loads(request.META["HTTP_X_RAW_HEADERS"]),
                "trailers": [],
                "token": token if scheme == "Bearer" else None,
                "status": response.status_code,
                "length": len(response.content),
            }
        )
        return response

    def by_path(request):
        if request.path == "/oauth2/token/":
            return token_request(request)
        return (withdrawal if request.path.startswith("/oauth2/") else api_request)(request)

    return by_path


@protected_resource()
def resource(request, route, rest):
    if rest.startswith("refused/"):
        # What a portal says when the token is good and the wish is not.
        return HttpResponse("Environment does not exist", status=403)
    return JsonResponse(
        {
            "id": request.headers.get("X-Request-Number"),
            "route": route,
            "sha256": hashlib.sha256(request.body).hexdigest(),
        }
    )


urlpatterns = [
    # The portal's own name for what the library has at revoke_token/.
    path("oauth2/revoke-token/", RevokeTokenView.as_view()),
    path("oauth2/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("base/<str:route>/<path:rest>", resource),
]


class RawParser(waitress.parser.HTTPRequestParser):
    """Hands the header lines to the application before waitress joins those of one name."""

    def parse_header(self, header_plus):
        super().parse_header(header_plus)
        lines = header_plus.decode("latin-1").split("\r\n")[1:]
        fields = [[name, value.strip()] for name, colon, value in (line.partition(":") for line in lines) if colon]
        self.headers["X_RAW_HEADERS"] = json.dumps(fields)


class SearchedChannel(waitress.channel.HTTPChannel):
    """Every byte received is searched for what must never arrive."""

    parser_class = RawParser
    tail = ""

    def received(self, data):
        text = self.tail + data.decode("latin-1")
        for word in given["forbidden"]:
            at = text.find(word)
            if at >= 0 and at + len(word) > len(self.tail):
                request_log.write({"arrived": now(), "forbidden": text[max(0, at - 200) : at + 60]})
        self.tail = text[-32:]
        return super().received(data)


def main():
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
    user = get_user_model().objects.create_user(given["username"], password=given["password"])
    for application in given["applications"]:
        get_application_model().objects.create(
            name=given["username"],
            user=user,
            authorization_grant_type="password",
            **application,
        )
    connection.close()

    waitress.server.TcpWSGIServer.channel_class = SearchedChannel
    server = waitress.server.create_server(
        get_wsgi_application(), host="127.0.0.1", port=0, threads=8, backlog=1024, channel_timeout=300
    )
    print(f"listening {server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
