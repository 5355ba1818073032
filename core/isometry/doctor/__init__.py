"""The doctor: examines any network before it trains. Does the signal survive forward, the gradient backward?"""
