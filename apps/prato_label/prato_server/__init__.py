"""What a request passes before the MONAI Label server: request ids, token, hosts and origins, sizes. It has nothing to do with hearts.

A package beside ``lib``, because it is imported first: the stock command loads ``prato_server.app`` as its ASGI app, which loads
MONAI Label, which loads ``main.py`` and then removes ``lib`` from ``sys.modules``. Below ``lib`` it would exist twice.
"""
