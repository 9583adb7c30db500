"""``qos watch``: a market on one screen.

``reader`` writes what a client receives into the ``model``, which has the ``rows`` and the
``alerts``; ``panels``, ``board`` and ``chart`` draw the model as lines of ``text``. ``app``
shows the lines and handles the keys; it, ``help``, ``prompt`` and ``themes`` are the only
modules that need textual, from the extra ``cli``. ``remember`` writes what was chosen into
the configuration. ``command`` has the arguments, and runs the app for ``qos watch`` and
for ``qos demo``.
"""
