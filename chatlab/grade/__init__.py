"""Grades a Socket.IO chat server from outside: the wire contract, promise by promise.

It never looks at the server's source, and it is no load test. docs/grade.md lists the promises.
"""

from chatlab.grade.grading import grade
from chatlab.grade.promise import Broken, Level, NotJudged, Promise, Silent, Unready, promise
from chatlab.grade.result import Report, Result, Verdict
from chatlab.grade.run import Unreachable
from chatlab.grade.tokens import TokenError

__all__ = [
    "Broken",
    "Level",
    "NotJudged",
    "Promise",
    "Report",
    "Result",
    "Silent",
    "TokenError",
    "Unreachable",
    "Unready",
    "Verdict",
    "grade",
    "promise",
]
