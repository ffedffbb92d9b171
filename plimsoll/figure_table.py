"""The figures of runs side by side, and how amounts are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plimsoll.figures import Figures


def amount(value: float, decimals: int, sign: str = "") -> str:
    """Write an amount with the decimals of its currency; ``sign`` is "+" where a gain shall show one."""
    return f"{value:{sign},.{decimals}f}"


def figure_rows(columns: Sequence[Figures], currency: str, decimals: int) -> list[tuple[str, ...]]:
    """Return the rows of the table of figures, one column for each run; amounts in ``currency`` with its ``decimals``."""

    def known(value: float | None, pattern: str) -> str:
        return "not planned" if value is None else pattern.format(value)

    rows: tuple[tuple[str, Callable[[Figures], str]], ...] = (
        (f"Final balance, {currency}", lambda f: amount(f.final_balance, decimals)),
        ("Total profit", lambda f: f"{f.profit:+.2%}"),
        ("Max drawdown", lambda f: f"{f.max_drawdown:.2%}"),
        ("Trades", lambda f: f"{f.trades:,}"),
        ("Liquidations", lambda f: f"{f.liquidations:,}"),
        ("Trades losing 95 % of their margin or more", lambda f: f"{f.whole_margin_losses:,}"),
        ("Worst trade, of its margin", lambda f: "–" if f.worst_margin is None else f"{f.worst_margin:+.1%}"),
        ("Worst trade, in R as planned", lambda f: known(f.worst_r, "{:+.2f} R")),
        ("Trades losing over 1.05 R", lambda f: known(f.beyond_r, "{:,}")),
        ("Stops outside liquidation at fill", lambda f: f"{f.stops_outside:,}"),
        ("Average leverage", lambda f: "–" if f.mean_leverage is None else f"{f.mean_leverage:.2f}x"),
        ("Most margin in use, of the balance", lambda f: f"{f.max_margin:.1%}"),
    )
    return [(name, *(read(column) for column in columns)) for name, read in rows]
