"""``qos chart``: fetches klines and draws them, in the terminal or into a file.

Files are drawn by ``qos_async.charts``, the terminal by the functions of ``qos watch``.
"""
