"""Replays: a candle history as a live market on this machine."""
