"""The texts of errors that reach the user."""

from pretrain.config.text import ConfigError
from pretrain.runtime.errors import PretrainError, from_worker, user_message


def test_every_fault_of_a_configuration_keeps_its_line() -> None:
    error = ConfigError(["first: wrong", "second: wrong"])
    assert user_message(error) == "2 faults in the settings:\n  first: wrong\n  second: wrong"


def test_an_error_of_this_process_is_not_made_anew() -> None:
    error = ConfigError(["only: wrong"])
    assert from_worker(error) is error


def test_an_error_of_a_worker_loses_its_traceback() -> None:
    text = "Caught PretrainError in DataLoader worker process 0.\nTraceback ...\nPretrainError: a.jpg: empty\n"
    assert str(from_worker(PretrainError(text))) == "a.jpg: empty"
