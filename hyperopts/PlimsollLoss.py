"""A hyperopt loss with liquidation and ruin as the worst there is: ``freqtrade hyperopt --hyperopt-loss PlimsollLoss``."""

from plimsoll.host import hyperopt_loss


class PlimsollLoss(hyperopt_loss.PlimsollLoss):
    """Growth a year less the depth of the worst drawdown; see :mod:`plimsoll.host.hyperopt_loss`."""
