"""The exceptions that stemvane raises on purpose.

::

    StemvaneError
    ├── DataError            the numbers cannot be what they claim to be
    ├── FileFormatError      the file cannot be read as a 4D-STEM scan
    ├── CalibrationError     a needed number is unknown, impossible or cannot be found
    ├── ConfigError          a setting is unknown or out of range
    ├── ModelError           a model does not fit the data, or a model file is damaged
    ├── RunError             a run folder exists, is incomplete or is damaged
    └── MissingPackageError  a package that is installed on demand is missing

Every message names the trouble and the cure in one line; the command line prints it as it is and exits with 1.
"""


class StemvaneError(Exception):
    """Base of every error that stemvane raises on purpose."""


class DataError(StemvaneError):
    """The data are not what a 4D-STEM scan can be: wrong dimensions, NaN, negative or empty patterns."""


class FileFormatError(StemvaneError):
    """A file is missing, damaged, or not of a format that stemvane reads."""


class CalibrationError(StemvaneError):
    """A number of the calibration is missing, impossible, or could not be found from the data."""


class ConfigError(StemvaneError):
    """A setting is unknown or out of its range."""


class ModelError(StemvaneError):
    """A model does not fit the data it is given, or its file is damaged."""


class RunError(StemvaneError):
    """A run folder exists already, is incomplete, or is damaged."""


class MissingPackageError(StemvaneError):
    """A package that is installed on demand, with an extra of stemvane, cannot be imported."""
