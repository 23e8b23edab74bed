"""Workers: processes that make exchanges for a driver, on this machine or on others, and what places them."""
