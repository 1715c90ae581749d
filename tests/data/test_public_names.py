"""What users see of a class or a function is the name by which they import it."""

import pickle
import traceback

import pytest

import aiocmdpool
import aiocmdpool.policies
import aiocmdpool.sync
from aiocmdpool import CommandConfig, ConfigError

PACKAGES = (aiocmdpool, aiocmdpool.sync, aiocmdpool.policies)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_classes_and_functions_belong_to_the_package_they_are_imported_from(package):
    own = {name: getattr(package, name) for name in package.__all__}
    for name, each in own.items():
        if getattr(each, "__name__", None) == name and each.__module__.startswith("aiocmdpool"):
            assert each.__module__ in {other.__name__ for other in PACKAGES}, name
            assert getattr(package, name) is each


def test_tracebacks_and_pickles_name_no_file_of_the_package():
    with pytest.raises(ConfigError) as caught:
        CommandConfig("")
    assert traceback.format_exception_only(caught.value)[-1].startswith("aiocmdpool.ConfigError: ")
    data = pickle.dumps(CommandConfig("true"))
    assert b"aiocmdpool." not in data.replace(b"aiocmdpool.standalone", b"")
    assert pickle.loads(data) == CommandConfig("true")
