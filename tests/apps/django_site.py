"""A Django project in one file, as small as it can be."""

import hashlib
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup()


def index(request):
    return HttpResponse("django")


def stream(request):
    return StreamingHttpResponse(f"{number},{number * number}\n" for number in range(20000))


def big(request):
    """?NAME: a head line, then, when somebody has written to the FIFO, 200 MB of lines."""

    def lines():
        yield "number,square\n"
        open(request.META["QUERY_STRING"]).close()
        for _ in range(3100):
            yield "1234567,1524155677489\n" * 3000

    response = StreamingHttpResponse(lines(), content_type="text/csv")
    response["X-Accel-Buffering"] = "no"
    return response


def attachment(request):
    return FileResponse(open(os.environ["FILES"] + "/big.bin", "rb"), as_attachment=True)


def upload(request):
    body = request.body
    return JsonResponse({"length": len(body), "sha256": hashlib.sha256(body).hexdigest()})


def form(request):
    file = request.FILES["file"]
    return JsonResponse({"name": request.POST["name"], "size": file.size})


def file(request):
    return FileResponse(open(request.GET["path"], "rb"))


urlpatterns = [
    path("", index),
    path("stream", stream),
    path("big", big),
    path("attachment", attachment),
    path("upload", upload),
    path("form", form),
    path("file", file),
]
application = get_wsgi_application()
