"""How ASGI applications are served here that a gateway is measured against."""

from typing import Any

import uvicorn


def serve(application: Any, port: int, **more: Any) -> None:
    """Serve until the process ends, with the settings of the gateway's own server."""
    uvicorn.run(
        application,
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        ws="none",
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        **more,
    )
