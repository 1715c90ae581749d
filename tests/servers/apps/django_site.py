"""A Django site in one module: `servers.apps.django_site:wsgi` and `:asgi`. Under WSGI each async view has a loop."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

import aiocmdpool
from aiocmdpool import CommandConfig, sync

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="of a test", ALLOWED_HOSTS=["*"], DEBUG=False)
django.setup()
pool = sync.CommandPool()


def blocking(request):
    return HttpResponse(pool.execute(CommandConfig("echo", ["from the pool"])).stdout)


async def on_a_loop(request):
    return HttpResponse((await aiocmdpool.run("echo", "from a one-liner")).stdout)


urlpatterns = [path("pool", blocking), path("run", on_a_loop)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
