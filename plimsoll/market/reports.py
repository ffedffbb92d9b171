"""The simulated account in Binance's words: one function for each kind of body."""

from __future__ import annotations

from typing import Any

from plimsoll.market.account import SimulatedAccount
from plimsoll.market.endpoints import number_text
from plimsoll.market.orders import Fill, Income, Order, Quote, StopOrder
from plimsoll.market.positions import Position


def text(number: float) -> str:
    """Write an amount with at most 8 decimal places, as all amounts of an account are."""
    return number_text(round(number, 8) + 0.0)


def balance(account: SimulatedAccount) -> dict[str, Any]:
    """Return the wallet as ``balance`` tells it."""
    return {
        "accountAlias": "plimsoll",
        "asset": account.asset,
        "balance": text(account.wallet_balance),
        "crossWalletBalance": text(account.cross_balance()),
        "crossUnPnl": "0",
        "availableBalance": text(account.available_balance()),
        "maxWithdrawAmount": text(account.available_balance()),
        "marginAvailable": True,
        "updateTime": account.now(),
    }


def account(account: SimulatedAccount) -> dict[str, Any]:
    """Return wallet, margins and open positions as ``account`` tells them."""
    shown = [(symbol, held, quote) for symbol, held in account.positions.items()
             if held.is_open and (quote := account.quote(symbol)) is not None]  # fmt: skip
    profit = sum(held.profit(quote.mark) for _, held, quote in shown)
    initial = sum(held.initial_margin(quote.mark) for _, held, quote in shown)
    maintenance = sum(held.maintenance_margin(quote.mark, account.tiers[name]) for name, held, quote in shown)
    reserved = sum(each.reserved for each in account.orders.values() if each.is_resting)
    numbers = {
        "initialMargin": text(initial + reserved),
        "maintMargin": text(maintenance),
        "walletBalance": text(account.wallet_balance),
        "unrealizedProfit": text(profit),
        "marginBalance": text(account.wallet_balance + profit),
        "positionInitialMargin": text(initial),
        "openOrderInitialMargin": text(reserved),
        "crossWalletBalance": text(account.cross_balance()),
        "crossUnPnl": "0",
    }
    free = {
        "availableBalance": text(account.available_balance()),
        "maxWithdrawAmount": text(account.available_balance()),
    }
    totals = {f"total{name[0].upper()}{name[1:]}": value for name, value in numbers.items()}
    return {
        **totals,
        **free,
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "assets": [{"asset": account.asset, **numbers, **free, "updateTime": account.now()}],
        "positions": [_account_position(account, name, held, quote) for name, held, quote in shown],
    }


def _account_position(account: SimulatedAccount, symbol: str, held: Position, quote: Quote) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": text(held.amount),
        "entryPrice": text(held.entry_price),
        "leverage": str(held.leverage),
        "isolated": held.isolated,
        "unrealizedProfit": text(held.profit(quote.mark)),
        "isolatedMargin": text(held.isolated_wallet + held.profit(quote.mark)),
        "notional": text(held.amount * quote.mark),
        "isolatedWallet": text(held.isolated_wallet),
        "initialMargin": text(held.initial_margin(quote.mark)),
        "maintMargin": text(held.maintenance_margin(quote.mark, account.tiers[symbol])),
        "updateTime": held.updated_ms,
    }


def position(account: SimulatedAccount, symbol: str, *, version: int) -> dict[str, Any]:
    """Return a position as ``positionRisk`` of version 2 or 3 tells it."""
    held, quote = account.positions[symbol], account.quote(symbol)
    tiers = account.tiers[symbol]
    mark = 0.0 if quote is None else quote.mark
    profit = held.profit(mark) if held.is_open else 0.0
    answer = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": text(held.amount),
        "entryPrice": text(held.entry_price),
        "breakEvenPrice": text(_break_even(held, account.taker_fee_ratio)),
        "markPrice": text(mark),
        "unRealizedProfit": text(profit),
        "liquidationPrice": text(held.liquidation_price(tiers)),
        "isolatedMargin": text(held.isolated_wallet + profit if held.is_open else 0.0),
        "notional": text(held.amount * mark),
        "isolatedWallet": text(held.isolated_wallet),
        "updateTime": held.updated_ms,
    }
    if version == 2:
        return answer | {
            "leverage": str(held.leverage),
            "marginType": "isolated" if held.isolated else "cross",
            "isAutoAddMargin": "false",
            "maxNotionalValue": text(max(tier.max_notional or 0.0 for tier in tiers)),
        }
    reserved = sum(
        each.reserved for each in account.orders.values() if each.is_resting and each.symbol == symbol
    )
    initial = held.initial_margin(mark)
    return answer | {
        "marginAsset": account.asset,
        "initialMargin": text(initial + reserved),
        "maintMargin": text(held.maintenance_margin(mark, tiers) if held.is_open else 0.0),
        "positionInitialMargin": text(initial),
        "openOrderInitialMargin": text(reserved),
        "adl": 1,
        "bidNotional": "0",
        "askNotional": "0",
    }


def _break_even(held: Position, fee_ratio: float) -> float:
    if not held.is_open:
        return 0.0
    return held.entry_price * (1 + fee_ratio if held.amount > 0 else 1 - fee_ratio)


def order(account: SimulatedAccount, each: Order) -> dict[str, Any]:
    """Return an order."""
    return {
        "orderId": each.id,
        "symbol": each.symbol,
        "status": each.status,
        "clientOrderId": each.client_id,
        "price": text(each.price),
        "avgPrice": text(each.average),
        "origQty": text(each.quantity),
        "executedQty": text(each.filled),
        "cumQty": text(each.filled),
        "cumQuote": text(each.quote_filled),
        "timeInForce": each.time_in_force,
        "type": each.kind,
        "origType": each.kind,
        "reduceOnly": each.reduce_only,
        "closePosition": False,
        "side": each.side,
        "positionSide": "BOTH",
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "time": each.created_ms,
        "updateTime": each.updated_ms,
    }


def stop_order(account: SimulatedAccount, each: StopOrder) -> dict[str, Any]:
    """Return a conditional order; ``actualOrderId`` is the order it placed."""
    placed = account.orders.get(each.order_id) if each.order_id is not None else None
    return {
        "algoId": each.id,
        "clientAlgoId": each.client_id,
        "algoType": "CONDITIONAL",
        "orderType": each.kind,
        "symbol": each.symbol,
        "side": each.side,
        "positionSide": "BOTH",
        "timeInForce": each.time_in_force,
        "quantity": text(each.quantity),
        "algoStatus": each.status,
        "actualOrderId": "" if placed is None else str(placed.id),
        "actualPrice": text(0.0 if placed is None else placed.average),
        "triggerPrice": text(each.trigger_price),
        "price": text(each.price),
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": "MARK_PRICE" if each.by_mark else "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "closePosition": False,
        "priceProtect": False,
        "reduceOnly": each.reduce_only,
        "createTime": each.created_ms,
        "updateTime": each.updated_ms,
        "triggerTime": each.triggered_ms,
        "goodTillDate": 0,
    }


def fill(account: SimulatedAccount, each: Fill) -> dict[str, Any]:
    """Return an execution."""
    return {
        "symbol": each.symbol,
        "id": each.id,
        "orderId": each.order_id,
        "side": each.side,
        "price": text(each.price),
        "qty": text(each.quantity),
        "realizedPnl": text(each.realised),
        "marginAsset": account.asset,
        "quoteQty": text(each.price * each.quantity),
        "commission": text(each.fee),
        "commissionAsset": account.asset,
        "time": each.time_ms,
        "positionSide": "BOTH",
        "maker": each.is_maker,
        "buyer": each.side == "BUY",
    }


def income(account: SimulatedAccount, each: Income) -> dict[str, Any]:
    """Return a change of the wallet."""
    return {
        "symbol": each.symbol,
        "incomeType": each.kind,
        "income": text(each.amount),
        "asset": account.asset,
        "info": "" if each.trade_id is None else str(each.trade_id),
        "time": each.time_ms,
        "tranId": each.id,
        "tradeId": "" if each.trade_id is None else str(each.trade_id),
    }
