"""A Kubeflow Pipelines server on loopback, for tests.

It keeps what it is given, checks every request and every answer by the API's own description, and
runs what is submitted on Kubeflow's local runner, each run in a process of its own.
"""

import base64
import email
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.pipeline.kfp_contract import Contract, ContractError

PREFIX = "/apis/v2beta1/"
UNSET = "1970-01-01T00:00:00Z"  # what the real one writes of a time that has not come
OVER = ("SUCCEEDED", "FAILED", "CANCELED")
KINDS = {
    "experiments": ("experiments", "experiment_id"),
    "pipelines": ("pipelines", "pipeline_id"),
    "pipeline_versions": ("pipeline_versions", "pipeline_version_id"),
    "runs": ("runs", "run_id"),
    "recurringruns": ("recurringRuns", "recurring_run_id"),
}
_SAID = re.compile(r"(Executing task|Task) '?([\w-]+)'?(.*)")
_COLOUR = re.compile(r"\x1b\[\d+m")
_ENGINE = Path(__file__).with_name("kfp_engine.py")


class RefusedError(Exception):
    """An answer that is an error: HTTP's code, gRPC's code, and why."""


class Api:
    """A server and all that it keeps.

    Attributes:
        tables: Everything by kind and id.
        seen: Every request so far, as method and path.
        tokens: What each token may use; empty: nobody is asked for one.
        before: Called with each request before it is answered; may raise `RefusedError`.
    """

    def __init__(self, folder, swagger, *, namespaces=(), tokens=None):
        self.contract = Contract(swagger)
        self.folder, self.namespaces, self.tokens = folder, set(namespaces), tokens or {}
        self.tables = {kind: {} for kind in KINDS}
        self.seen, self.before = [], lambda method, path: None
        self._lock, self._running = threading.RLock(), {}
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Stop answering, and end what runs."""
        for run_id in list(self._running):
            self._kill(run_id)
        self._server.shutdown()
        self._server.server_close()

    def writes(self):
        """The requests that changed something."""
        return [f"{method} {path}" for method, path in self.seen if method != "GET"]

    def answer(self, method, url, headers, raw):
        """What a request is answered: a code and JSON."""
        path, query = urlsplit(url).path, dict(parse_qsl(urlsplit(url).query))
        self.seen.append((method, path))
        operation, found = self.contract.operation(method, path)
        try:
            self.before(method, path)
            if operation is None:
                raise RefusedError(404, 5, "Not Found")
            self._authorize(headers, query)
            self.contract.check_query(operation, query)
            multipart = headers.get("Content-Type", "").startswith("multipart/")
            body = None if multipart or not raw else json.loads(raw)
            if not multipart:
                self.contract.check_body(operation, body)
            file = _uploaded(headers, raw) if multipart else None
            with self._lock:
                answer = self._route(method, path.removeprefix(PREFIX), found, query, body, file)
                answer = json.loads(json.dumps(answer))
            self.contract.check_answer(operation, answer)
        except (ContractError, ValueError) as error:
            return 400, {"code": 3, "message": f"Invalid input error: {error}"}
        except RefusedError as error:
            status, code, message = error.args
            return status, {"error": message, "code": code, "message": message, "details": []}
        return 200, answer

    def _authorize(self, headers, query):
        if not self.tokens:
            return
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise RefusedError(401, 16, "User identity is empty in the request header")
        if query.get("namespace") and query["namespace"] not in self.tokens[token]:
            raise RefusedError(
                403, 7, f"User is not authorized to list in namespace {query['namespace']}"
            )

    def _route(self, method, path, found, query, body, file):
        kind, _, verb = path.partition("/")[0], *path.rpartition(":")[1:]
        if kind == "healthz":
            return _full({"multi_user": bool(self.namespaces), "pipeline_store": "database"})
        if path == "pipelines/upload_version":
            return self._upload_version(query, file)
        if "/versions" in path:
            kind = "pipeline_versions"
        if method == "POST" and not found:
            return getattr(self, f"_create_{kind}")(body)
        if method == "GET" and KINDS[kind][1] not in found:
            return self._list(kind, found, query)
        thing = self._get(kind, found[KINDS[kind][1]])
        if method == "DELETE":
            del self.tables[kind][found[KINDS[kind][1]]]
            return {}
        if method == "POST":
            return self._act(kind, thing, verb)
        return thing

    def _get(self, kind, key):
        if key not in self.tables[kind]:
            raise RefusedError(404, 5, f"ResourceNotFoundError: {kind} {key} not found.")
        return self.tables[kind][key]

    def _keep(self, kind, fields):
        key = str(uuid.uuid4())
        made = {**_full(fields), KINDS[kind][1]: key, "created_at": _now()}
        self.tables[kind][key] = made
        return made

    def _create_experiments(self, body):
        self._own_namespace(body.get("namespace", ""))
        if any(
            each["display_name"] == body["display_name"]
            and each.get("namespace") == body.get("namespace")
            for each in self.tables["experiments"].values()
        ):
            raise RefusedError(409, 6, f"The name {body['display_name']} already exists.")
        return self._keep("experiments", body | {"storage_state": "AVAILABLE"})

    def _create_pipelines(self, body):
        self._own_namespace(body.get("namespace", ""), needed=False)
        return self._keep("pipelines", body)

    def _upload_version(self, query, file):
        pipeline = self._get("pipelines", query["pipelineid"])
        for each in self.tables["pipeline_versions"].values():
            if each["name"] == query["name"] and each["pipeline_id"] == pipeline["pipeline_id"]:
                raise RefusedError(409, 6, f"The name {query['name']} already exists.")
        spec, *platform = yaml.load_all(file, Loader=yaml.CSafeLoader)
        kept = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        fields = {key: query[key] for key in ("name", "description") if query.get(key)}
        return self._keep(
            "pipeline_versions",
            fields
            | {
                "display_name": query["name"],
                "pipeline_id": pipeline["pipeline_id"],
                "pipeline_spec": kept,
            },
        )

    def _create_recurringruns(self, body):
        self._get("experiments", body["experiment_id"])
        self._version(body)
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise ContractError("The max concurrency of the recurring run is out of range [1-10]")
        fields = body["trigger"]["cron_schedule"]["cron"].split()
        if len(fields) != 6:
            raise ContractError(f"six fields wanted, which the tests insist on; found {fields}")
        status = "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED"
        return self._keep("recurringruns", body | {"status": status})

    def _create_runs(self, body):
        self._get("experiments", body["experiment_id"])
        version = self._version(body)
        run = self._keep("runs", body | {"state": "PENDING", "storage_state": "AVAILABLE"})
        run |= {"finished_at": UNSET, "run_details": {"task_details": []}}
        threading.Thread(target=self._execute, args=(run, version), daemon=True).start()
        return run

    def _version(self, body):
        return self._get(
            "pipeline_versions", body["pipeline_version_reference"]["pipeline_version_id"]
        )

    def _own_namespace(self, namespace, *, needed=True):
        if self.namespaces and needed and namespace not in self.namespaces:
            raise RefusedError(403, 7, f"User is not authorized in namespace {namespace!r}")
        if not self.namespaces and namespace:
            raise RefusedError(400, 3, "In single-user mode, namespaces are not supported")

    def _list(self, kind, found, query):
        things = list(self.tables[kind].values())
        namespace, experiment = query.get("namespace", ""), query.get("experiment_id", "")
        if kind == "pipeline_versions":
            things = [each for each in things if each["pipeline_id"] == found["pipeline_id"]]
        elif experiment:
            self._get("experiments", experiment)
            things = [each for each in things if each["experiment_id"] == experiment]
        else:
            self._own_namespace(namespace, needed=kind != "pipelines")
        if namespace and kind in ("experiments", "pipelines"):
            things = [each for each in things if each.get("namespace", "") == namespace]
        for predicate in self.contract.check_filter(query["filter"]) if query.get("filter") else []:
            if predicate["operation"] != "EQUALS" or predicate["key"] != "display_name":
                raise ContractError(f"this filter is not known here: {predicate}")
            wanted = predicate["string_value"]
            things = [each for each in things if each["display_name"] == wanted]
        if query.get("sort_by") not in (None, "", "created_at desc"):
            raise ContractError(f"this order is not known here: {query['sort_by']}")
        if query.get("sort_by"):
            things.reverse()
        first = int(base64.b64decode(query["page_token"])) if query.get("page_token") else 0
        last = first + min(int(query.get("page_size") or 20), 200)
        page = {KINDS[kind][0]: things[first:last], "total_size": len(things)}
        if last < len(things):
            page["next_page_token"] = base64.b64encode(str(last).encode()).decode()
        return _full(page)

    def _act(self, kind, thing, verb):
        if kind == "recurringruns":
            thing["status"] = {"enable": "ENABLED", "disable": "DISABLED"}[verb]
        elif verb == "terminate":
            if thing["state"] in OVER:
                raise ContractError("Run is in a final state")
            thing["state"] = "CANCELING"
            self._kill(thing["run_id"])
        return {}

    def _kill(self, run_id):
        if run_id in self._running:
            with suppress(ProcessLookupError):
                os.killpg(self._running[run_id].pid, signal.SIGKILL)

    def _execute(self, run, version):
        folder = self.folder / run["run_id"]
        folder.mkdir(parents=True)
        kept = version["pipeline_spec"]
        package, arguments = folder / "pipeline.yaml", folder / "arguments.json"
        package.write_text(yaml.dump(kept.get("pipeline_spec", kept), Dumper=yaml.CSafeDumper))
        arguments.write_text(json.dumps(run.get("runtime_config", {}).get("parameters", {})))
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, _ENGINE, package, arguments, folder / "kfp"],
                cwd=Path(__file__).parents[2],
                env=os.environ | {"KFP_RUN_ID": run["run_id"]},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            with self._lock:
                self._running[run["run_id"]] = process
                run["state"] = "RUNNING"
            tasks = _Tasks(run)
            with process.stdout:
                for line in process.stdout:
                    log.write(line)
                    with self._lock:
                        tasks.take(line)
        process.wait()
        with self._lock:
            del self._running[run["run_id"]]
            if run["state"] == "CANCELING":
                tasks.end("CANCELED")
                run["state"] = "CANCELED"
            else:
                run["state"] = "FAILED" if process.returncode else "SUCCEEDED"
                tasks.end(run["state"])
            run["finished_at"] = _now()


class _Tasks:
    """A run's tasks as the engine reports them: a driver each, and an executor for each try."""

    def __init__(self, run):
        self._details = run["run_details"]["task_details"]
        self._tasks, self._tail, self._run = {}, "", run["run_id"]
        self._task("root")

    def take(self, line):
        line = _COLOUR.sub("", line)
        said = _SAID.search(line)
        if not said:
            if "ERROR" in line or "Error:" in line:
                self._tail = line.strip()
            return
        kind, name, rest = said.groups()
        if kind == "Executing task":
            driver = self._task(f"{name}-driver")
            self._close(driver, "SUCCEEDED")
            tried = [each for each in self._details if each["task_id"].startswith(f"{name}-try")]
            task = self._tasks.get(name) or self._task(name)
            task["state"], self._tail = "RUNNING", ""
            inner = self._task(f"executor({len(tried)})", f"{name}-try-{len(tried)}")
            task.setdefault("child_tasks", []).append({"pod_name": inner["pod_name"]})
            self._tasks[name], self._tasks[f"{name} try"] = task, inner
        elif "finished with status" in rest:
            state = "SUCCEEDED" if "SUCCESS" in rest else "FAILED"
            inner = self._tasks[f"{name} try"]
            if state == "FAILED":
                inner["error"] = {"code": 13, "message": f"Error (exit code 1): {self._tail}"}
            self._close(inner, state)
            self._close(self._tasks[name], state)
        elif "Retrying" in rest:
            self._tasks[name]["state"] = "RUNNING"

    def end(self, state):
        for each in self._details:
            if each["state"] == "RUNNING":
                self._close(each, state)

    def _task(self, name, key=None):
        key = key or name
        made = {
            "run_id": self._run,
            "task_id": key,
            "display_name": name,
            "pod_name": f"{self._run[:8]}-{key}",
            "create_time": _now(),
            "start_time": _now(),
            "end_time": UNSET,
            "state": "RUNNING",
        }
        self._details.append(made)
        return made

    def _close(self, task, state):
        task["state"], task["end_time"] = state, _now()


class _Handler(BaseHTTPRequestHandler):
    def _any(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, answer = self.api.answer(self.command, self.path, self.headers, raw)
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PATCH = _any

    def log_message(self, *arguments):
        """Say nothing."""


def _uploaded(headers, raw):
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + raw).get_payload()
    if part.get_param("name", header="content-disposition") != "uploadfile":
        raise ContractError("the file is to be named uploadfile")
    return part.get_payload(decode=True)


def _full(fields):
    """Without what is empty, false or zero: protobuf's JSON leaves it out."""
    return {name: value for name, value in fields.items() if value not in (None, "", 0, [], {})}


def _now():
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
