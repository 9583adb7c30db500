"""Survey of a service: what it does where its documentation is silent.

``survey`` sends one request to each endpoint, one of each type over the websocket, and
subscribes to each channel for a while. The answers are kept as they came (``exchanges``)
and judged afterwards, without I/O (``findings``). Each switch of ``sim.Variants`` is one
finding, so that a simulator can be given the behaviour of the service:
``Simulator(variants=Variants.load("report.json"))``. ``qos doctor --deep`` prints it.
"""

from qos_async.survey.exchanges import Target
from qos_async.survey.findings import Finding
from qos_async.survey.report import SurveyReport, survey

__all__ = ["Finding", "SurveyReport", "Target", "survey"]
