"""How a registered model is hosted: what is wanted, the requests that bring it about, and the proof that it works.

``target`` says what is wanted; ``requests`` turns that into AWS's requests, and is pure; ``golden`` asks the endpoint
what evaluation asked the model; ``surroundings`` are alarms, scaling and what is left of earlier versions.
"""
