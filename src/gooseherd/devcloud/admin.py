"""The routes that AWS does not have: inject faults, count calls, kill tasks."""

from __future__ import annotations

from typing import Any

from gooseherd.devcloud.calls import CallCounter
from gooseherd.devcloud.faults import Fault, FaultTable
from gooseherd.devcloud.task_table import TaskTable
from gooseherd.domain.errors import InvalidInput, NotFound


class Admin:
    """Answers below /_devcloud. Called on the event loop's thread."""

    def __init__(self, task_table: TaskTable, faults: FaultTable, calls: CallCounter) -> None:
        self._task_table = task_table
        self._faults = faults
        self._calls = calls

    def answer(self, method: str, path: list[str], body: Any) -> Any:
        """Plain data; raises InvalidInput and NotFound."""
        match method, path:
            case "GET", [""]:
                return {
                    "tasks": sum(not task.ended for task in self._task_table.all()),
                    "faults": self._faults.as_json(),
                }
            case "GET", ["faults"]:
                return self._faults.as_json()
            case "POST", ["faults"]:
                items = body if isinstance(body, list) else [body]
                if not all(isinstance(item, dict) for item in items):
                    raise InvalidInput("fault", "an object, or a list of them")
                faults = [Fault.from_json(item) for item in items]
                return {"ids": [self._faults.add(fault) for fault in faults]}
            case "DELETE", ["faults"]:
                self._faults.clear()
                return {}
            case "DELETE", ["faults", number] if number.isdigit():
                self._faults.clear(int(number))
                return {}
            case "GET", ["calls"]:
                return self._calls.as_json()
            case "DELETE", ["calls"]:
                self._calls.reset()
                return {}
            case "GET", ["tasks"]:
                return [self._task(task) for task in self._task_table.all()]
            case "POST", ["tasks", task_id, "kill"]:
                self._find(task_id).kill()
                return {}
            case "POST", ["tasks", task_id, "reclaim"]:
                task = self._find(task_id)
                if task.document.get("capacityProviderName") != "FARGATE_SPOT":
                    raise InvalidInput("task", "only tasks on FARGATE_SPOT are reclaimed")
                task.reclaim()
                return {}
            case _:
                raise NotFound("route", f"{method} /_devcloud/{'/'.join(path)}")

    def _find(self, task_id: str) -> Any:
        task = self._task_table.anywhere(task_id)
        if task is None or task.ended:
            raise NotFound("live task", task_id)
        return task

    def _task(self, task: Any) -> dict[str, Any]:
        document = task.document
        addresses = document["containers"][0]["networkInterfaces"]
        return {
            "id": task.task_id,
            "arn": task.arn,
            "family": task.plan.family,
            "startedBy": document.get("startedBy"),
            "status": document["lastStatus"],
            "health": document["healthStatus"],
            "reason": document.get("stoppedReason"),
            "address": addresses[0]["privateIpv4Address"] if addresses else None,
            "pids": task.pids,
            "logs": [str(task.log_of(container.name)) for container in task.plan.containers],
        }
