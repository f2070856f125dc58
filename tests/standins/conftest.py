import pytest

from tests.standins.makers import MAKERS, standin


@pytest.fixture(scope="session")
def standin_folder(published_folder, standins_folder):
    """The folder of the stand-in of a name."""
    return lambda name: standin(name, published_folder, standins_folder)


@pytest.fixture(scope="session", params=MAKERS)
def folder(request, standin_folder):
    """The folder of each stand-in."""
    return standin_folder(request.param)
