"""What luck alone does to a strategy: its drawdown, the size that fits, and the baseline of the decay breaker."""

from plimsoll.calibrate.history import CalibrationError, History, from_backtest, from_database
from plimsoll.calibrate.measure import BLOCK_DAYS, HORIZON_DAYS, PATHS, calibrate, daily_returns

__all__ = [
    "BLOCK_DAYS",
    "HORIZON_DAYS",
    "PATHS",
    "CalibrationError",
    "History",
    "calibrate",
    "daily_returns",
    "from_backtest",
    "from_database",
]
