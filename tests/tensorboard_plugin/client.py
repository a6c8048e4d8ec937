"""The plugin without TensorBoard's server around it."""

import json

import numpy as np
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from spd_lightning.tensorboard_plugin import ComponentsPlugin


class Tab:
    """Asks the routes of a log directory."""

    def __init__(self, logdir):
        self.plugin = ComponentsPlugin(base_plugin.TBContext(logdir=str(logdir)))
        self.apps = self.plugin.get_plugin_apps()

    def response(self, path, **parameters):
        route = "/static/*" if path.startswith("static/") else f"/{path}"
        return Client(self.apps[route]).get(f"/{path}", query_string=parameters)

    def ask(self, path, **parameters):
        """The answer; arrays under their names."""
        found = self.response(path, **parameters)
        assert found.status_code == 200, found.get_data()
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        return decoded(found)

    def runs(self):
        self.plugin._discovery._at = -1e9  # as if two seconds had passed
        return [run["id"] for run in self.ask("runs")["runs"]]


def decoded(response):
    body = response.get_data()
    if response.headers["Content-Type"] == "application/json":
        return json.loads(body)
    length = int.from_bytes(body[:4], "little")
    about, at = json.loads(body[4 : 4 + length]), 4 + length
    for one in about["arrays"]:
        count, dtype = int(np.prod(one["shape"])), np.dtype(one["type"])
        about[one["name"]] = np.frombuffer(body, dtype, count, at).reshape(one["shape"])
        at += -(-count * dtype.itemsize // 4) * 4
    assert at == len(body)
    return about
