"""nginx as a plain reverse proxy: the floor, for it looks at nothing that passes."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.bench import install
from loadtests.bench.contender import Contender, Running, Upstreams
from loadtests.bench.peers.launch import launch, running


class Nginx(Contender):
    """One worker, kept connections on both sides, no access log, answers passed on unbuffered as streams need it."""

    name = "nginx"
    speaks = "openai"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        """See Contender."""
        return install.distribution_program(self.name, say)

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """See Contender."""
        program = install.program(self.name)
        if program is None:
            raise RuntimeError("nginx is gone from where it was found")
        path = folder / "nginx.conf"
        path.write_text(config(upstreams.openai, port))
        return running(
            launch(self.name, [program, "-p", folder, "-e", "stderr", "-c", path], folder),
            f"http://127.0.0.1:{port}/v1",
        )


def config(openai: str, port: int) -> str:
    """The configuration for `openai` (an origin without `/v1`); paths are relative to the prefix."""
    return f"""\
daemon off;
{_user()}
pid nginx.pid;
worker_processes 1;
worker_rlimit_nofile 8192;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  client_max_body_size 16m;
  upstream openai {{
    server {urlsplit(openai).netloc};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://openai;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def _user() -> str:
    """The worker of a master that root runs would be an account that can't open the master's folder."""
    if not _is_root():
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"


def _is_root() -> bool:
    return os.getuid() == 0
