"""Fire drills: scenarios on a replayed market, and what each layer must do in them."""
