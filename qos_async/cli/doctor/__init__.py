"""``qos doctor``: checks the connection to the service and its prerequisites.

``command`` runs the checks, ``checks`` has those of configuration and client, ``probes``
those of name resolution, TCP and TLS. ``report`` prints results with secrets redacted.
"""
