"""What tokens cost: the rates of a model, and the cost of an attempt. No I/O."""
