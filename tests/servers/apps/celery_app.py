"""Celery tasks that run commands: `celery -A servers.apps.celery_app worker`."""

import os

from celery import Celery

from aiocmdpool import CommandConfig, sync

app = Celery("commands", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, task_acks_late=False, worker_send_task_events=False)
pool = sync.CommandPool()  # at import: in the parent of prefork's children

HANG = ["-c", 'echo $$ >"$1"; exec sleep 60', "sh", os.environ.get("READY", "/dev/null")]


@app.task
def in_pool(word):
    return pool.execute(CommandConfig("echo", [word])).text()


@app.task
def in_one_liner(word):
    return sync.run("echo", word).text()


@app.task
def hang_in_pool():
    pool.execute(CommandConfig("sh", HANG))


@app.task
def hang_in_one_liner():
    sync.run("sh", *HANG)
