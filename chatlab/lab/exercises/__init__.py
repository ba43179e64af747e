"""The checks of the exercises, one module a lesson. A check probes what the learner wrote, over
real sockets; how a check answers is `chatlab.lab.checks`'s business.
"""
