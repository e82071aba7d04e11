"""The vision task: pictures in, an answer and places in the caller's own pixels out.

One request's way: ``requests`` reads it, ``serve.pictures`` reads the pictures, makes of each what the model sees and
remembers how; ``prompts`` asks; ``answers`` finds the JSON in what a model says, ``confidence`` how sure it was,
``places`` turns it into boxes and points of the caller's picture, ``annotate`` draws them. ``handler`` holds it
together.
"""
