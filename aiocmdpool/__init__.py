"""Run external commands from asyncio: bounded, fast, and with nothing left behind."""

import sys

if sys.platform == "win32":
    raise ImportError("aiocmdpool needs a POSIX system: it relies on process groups, signals and pipes; use WSL")

from aiocmdpool.backends.child.process import ProcessBackend
from aiocmdpool.backends.child.thread import ThreadBackend
from aiocmdpool.backends.config import ExecutionBackend, ExecutionConfig, ExecutionMode, create_backend
from aiocmdpool.backends.process_pool import ProcessPoolBackend
from aiocmdpool.backends.workers.process_pool import ProcessPool, ProcessPoolStatistics
from aiocmdpool.commands.command import CommandConfig, CommandOptions, OutputPolicy, ResourceLimits, Stdio
from aiocmdpool.commands.errors import (
    ChildError,
    CircuitOpen,
    CommandTimeout,
    ConfigError,
    ExecuteError,
    IoError,
    LineTooLong,
    NonZeroExit,
    OutputLimitExceeded,
    PoolClosed,
    QueueFull,
    StdinClosed,
    TaskCancelled,
    WorkerLost,
)
from aiocmdpool.commands.executor import CommandExecutor
from aiocmdpool.commands.pipeline import Pipeline, PipelineResult
from aiocmdpool.commands.public import publish as _publish
from aiocmdpool.commands.result import CommandResult, EndReason, KillTier, LeakedProcess, Usage
from aiocmdpool.live.events import OutputEvent
from aiocmdpool.live.input_stream import InputStream
from aiocmdpool.live.output_stream import OutputStream
from aiocmdpool.live.process import LiveProcess
from aiocmdpool.live.terminal import WindowSize
from aiocmdpool.observability.chrome_trace import ChromeTrace
from aiocmdpool.observability.events import (
    EventHook,
    OutputLimitReached,
    TaskEvent,
    TaskFinished,
    TaskQueued,
    TaskStarted,
)
from aiocmdpool.observability.health import HealthState, PoolHealth
from aiocmdpool.observability.histogram import LatencyHistogram
from aiocmdpool.observability.observer import PoolLatencies
from aiocmdpool.one_shot_live import execute_pipeline, stream, stream_command
from aiocmdpool.pool.command_pool import CommandPool
from aiocmdpool.pool.seg_pool import CommandPoolSeg
from aiocmdpool.pool.statistics import PoolStatistics
from aiocmdpool.shortcuts import execute, run
from aiocmdpool.system.interpreter import freeze_support
from aiocmdpool.tasks.handle import TaskHandle
from aiocmdpool.tasks.status import TaskStatus, TaskStatusTracker
from aiocmdpool.tasks.thread_handle import ThreadTaskHandle as SegTaskHandle

__all__ = [
    "ChildError",
    "ChromeTrace",
    "CircuitOpen",
    "CommandConfig",
    "CommandExecutor",
    "CommandOptions",
    "CommandPool",
    "CommandPoolSeg",
    "CommandResult",
    "CommandTimeout",
    "ConfigError",
    "EndReason",
    "EventHook",
    "ExecuteError",
    "ExecutionBackend",
    "ExecutionConfig",
    "ExecutionMode",
    "HealthState",
    "InputStream",
    "IoError",
    "KillTier",
    "LatencyHistogram",
    "LeakedProcess",
    "LineTooLong",
    "LiveProcess",
    "NonZeroExit",
    "OutputEvent",
    "OutputLimitExceeded",
    "OutputLimitReached",
    "OutputPolicy",
    "OutputStream",
    "Pipeline",
    "PipelineResult",
    "PoolClosed",
    "PoolHealth",
    "PoolLatencies",
    "PoolStatistics",
    "ProcessBackend",
    "ProcessPool",
    "ProcessPoolBackend",
    "ProcessPoolStatistics",
    "QueueFull",
    "ResourceLimits",
    "SegTaskHandle",
    "StdinClosed",
    "Stdio",
    "TaskCancelled",
    "TaskEvent",
    "TaskFinished",
    "TaskHandle",
    "TaskQueued",
    "TaskStarted",
    "TaskStatus",
    "TaskStatusTracker",
    "ThreadBackend",
    "Usage",
    "WindowSize",
    "WorkerLost",
    "create_backend",
    "execute",
    "execute_pipeline",
    "freeze_support",
    "run",
    "stream",
    "stream_command",
]
__version__ = "0.1.0"

_publish(__all__, globals())
