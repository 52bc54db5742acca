"""Collectives, rendezvous, addresses and ports."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_PORTS = "ports that NCCL and gloo choose must be open between all hosts: clusterctl doctor --only net"
_EARLIER = "look at the rank that failed first, or that stands still: clusterctl why {run}"

NETWORK = (
    Signature(
        code="net.store-noise",
        role="cascade",
        sign=(
            'Failed to check the "should dump" flag on TCPStore',
            "[c10d] recvValue failed",
            "recvValueWithTimeout failed",
            "[c10d] sendBytes failed",
            "recvVector failed",
            "HeartbeatMonitor",
        ),
        pattern=r"(?P<what>should dump|recvValue|sendBytes|recvVector|HeartbeatMonitor)",
        means="the store on rank 0 is gone: every other rank says so when rank 0, or its host, has ended",
    ),
    Signature(
        code="net.nccl-timeout",
        role="cascade",
        sign=("Watchdog caught collective operation timeout",),
        pattern=r"SeqNum=(?P<sequence>\d+), OpType=(?P<operation>\w+).*?Timeout\(ms\)=(?P<limit>\d+)",
        means="it waited in {operation} number {sequence} for a rank that did not come",
        hint="the rank that is NOT among those with this message stands still, or is in another collective",
    ),
    Signature(
        code="net.nccl-remote",
        role="cascade",
        sign=(
            "ncclRemoteError",
            "NCCL WARN socketProgress: Connection closed by remote peer",
            "remote process exited or there was a network error",
        ),
        detail=r"remote peer (?P<peer>\S+?)(?:<\d+>)?$",
        means="an NCCL peer[ ({peer})] is gone: its process has ended, or the network between them",
        hint=_EARLIER,
    ),
    Signature(
        code="net.nccl-duplicate",
        sign=("Duplicate GPU detected",),
        pattern=r"rank (?P<one>\d+) and rank (?P<other>\d+) both on CUDA device (?P<device>\w+)",
        means="two ranks of one host took the same GPU[: {one} and {other} on device {device}]",
        hint="the script must take $LOCAL_RANK for torch.cuda.set_device()",
    ),
    Signature(
        code="net.nccl-version",
        sign=(
            "Mismatched NCCL version detected",
            "NCCL version mismatch",
            "peer mapping of resources exhausted",
        ),
        means="the hosts do not have the same NCCL",
        hint="clusterctl doctor --only sw.nccl-loaded; an LD_LIBRARY_PATH on one host may bring another "
        "libnccl",
    ),
    Signature(
        code="net.nccl-no-interface",
        sign=("Bootstrap : no socket interface found", "no socket interface found"),
        means="NCCL found no interface on {host} that fits NCCL_SOCKET_IFNAME",
        hint="leave NCCL_SOCKET_IFNAME out, clusterctl sets it for each host: clusterctl launch "
        "--dry-run shows it",
    ),
    Signature(
        code="net.nccl-ib",
        sign=("NCCL WARN NET/IB", "ibv_modify_qp failed", "Got completion from peer"),
        pattern=r"(?P<what>ibv_\w+ failed[^\n]{0,80}|Got completion (?:from peer \S+ )?with (?:error"
        r"|status)[= ]?\d+"
        r"[^\n]{0,60}|NET/IB\s?: [^\n]{0,100})",
        means="RDMA failed under NCCL: {what}",
        hint="clusterctl doctor --only ib; without RDMA for a try: --env NCCL_IB_DISABLE=1",
    ),
    Signature(
        code="net.nccl-system",
        sign=("ncclSystemError", "unhandled system error"),
        means="a system call failed under NCCL (a socket, shared memory, a file)",
        hint="which one: --env NCCL_DEBUG=INFO names it in a line with WARN; full /dev/shm, closed ports "
        "and "
        "small memlock look like this: clusterctl doctor",
    ),
    Signature(
        code="net.nccl-internal",
        sign=("ncclInternalError", "internal error - please report this issue to the NCCL developers"),
        means="NCCL gave up: what it found while it connected its ranks did not fit together",
        hint="--env NCCL_DEBUG=INFO says what in a line with WARN; whether all hosts have the same NCCL: "
        "clusterctl doctor --only sw,net",
    ),
    Signature(
        code="net.nccl-cuda",
        sign=("ncclUnhandledCudaError", "unhandled cuda error"),
        means="a CUDA call failed under NCCL: the card, its memory, or its driver, not the network",
        hint="--env NCCL_DEBUG=INFO names the call in a line with WARN; clusterctl doctor -i {host} "
        "--only gpu",
    ),
    Signature(
        code="net.nccl-usage",
        sign=("ncclInvalidUsage", "ncclInvalidArgument"),
        means="NCCL was used wrongly: as a rule two ranks on one GPU, or more ranks than GPUs",
        hint="the script must take $LOCAL_RANK for torch.cuda.set_device()",
    ),
    Signature(
        code="net.address-of-name",
        sign=("Unable to find address for", "Unable to find interface for", "ifa != nullptr. Unable to find"),
        pattern=r"Unable to find (?:address|interface) for: ?(?P<what>\S+)",
        means="gloo was told to use {what}, which is no interface with an address on {host}",
        hint="leave GLOO_SOCKET_IFNAME out, clusterctl sets it for each host; NCCL's ^ and = mean "
        "nothing to gloo",
    ),
    Signature(
        code="net.loopback-name",
        sign=("127.0.1.1", "[::1]", "[127.0.0.1]"),
        pattern=r"(?:[Cc]onnect\w*|remote)\W.*?(?P<what>127\.0\.\d\.\d|::1).*(?:refused|Connect)",
        near=r"[Gg]loo|connectFullMesh",
        means="a peer announced itself as {what}: the name of some host leads to its own loopback",
        hint="clusterctl doctor --only name.loopback; GLOO_SOCKET_IFNAME as clusterctl sets it avoids "
        "the name",
    ),
    Signature(
        code="net.port-in-use",
        sign=("EADDRINUSE", "ddress already in use"),
        pattern=r"(?:port: (?P<port>\d+)|\(errno: 98|Errno 98|ddress already in use)",
        means="a port that this rank needs is taken on {host}[: {port}]",
        hint="who: clusterctl exec -i {host} -- ss -ltnp[ 'sport = :{port}']; the master port is chosen "
        "anew at "
        "each launch, ports of your own are not",
    ),
    Signature(
        code="net.other-listener",
        sign=("Ping failed, invalid value returned from server",),
        means="something answers at the master's address and port that is not this run's store",
        hint="who listens there: clusterctl exec -i {master_host} -- ss -ltnp 'sport = :{master_port}'; "
        "a proxy in "
        "between answers for everybody",
    ),
    Signature(
        code="net.no-route",
        sign=("No route to host", "Network is unreachable", "EHOSTUNREACH", "ENETUNREACH"),
        pattern=r"(?:\(?(?:to|host|remote)[ :=]*\[?(?P<peer>[\w.:-]+?)\]?[, )].*)?(?:[Nn]o route"
        r"|unreachable|UNREACH)",
        means="{host} has no way to [{peer}]the peer: another network was chosen there, or a firewall "
        "rejects",
        hint="clusterctl doctor tries every pair both ways",
    ),
    Signature(
        code="net.name",
        sign=("Name or service not known", "Temporary failure in name resolution", "getaddrinfo"),
        pattern=r"(?:failed to resolve|\("
        r"|host(?:name)? )?['\"]?(?P<name>[\w.-]+)?['\"]?.*?(?:Name or service|name resolution"
        r"|getaddrinfo)",
        means="{host} cannot resolve a name that the script uses",
        hint="clusterctl doctor -i {host} --only name; DNS there: clusterctl exec -i {host} -- getent "
        "hosts NAME",
    ),
    Signature(
        code="net.waiting-for-clients",
        role="cascade",
        sign=("waiting for clients",),
        pattern=r"Timed out after (?P<seconds>\d+) seconds waiting for clients\. (?P<came>\d+)/"
        r"(?P<all>\d+)",
        means="only {came} of {all} ranks came to the rendezvous within {seconds} s: the others failed "
        "before, or "
        "still import",
        hint="a slow shared disk: init_process_group(timeout=...) of the script; else " + _EARLIER,
    ),
    Signature(
        code="net.store-timeout",
        role="cascade",
        sign=(
            "client socket has timed out",
            "client socket has failed to connect",
            "wait timeout after",
            "Socket Timeout",
            "Barrier timeout",
            "DistStoreError",
            "RendezvousTimeoutError",
            "RendezvousConnectionError",
        ),
        detail=r"timed out after \d+ms while trying to connect to \((?P<peer>[^,]+), (?P<port>\d+)\)",
        means="the store of rank 0 could not be reached in time[ at {peer} port {port}]: rank 0 has "
        "ended, has not "
        "come so far, or the port is closed",
        hint=_EARLIER + "; " + _PORTS,
    ),
    Signature(
        code="net.mesh",
        role="cascade",
        sign=("connectFullMesh failed",),
        means="gloo could not connect all ranks with one another",
        hint="a rank failed before, or: " + _PORTS,
    ),
    Signature(
        code="net.mismatch",
        sign=("Detected mismatch between collectives", "ncclInvalidArgument: mismatch"),
        means="ranks called different collectives, or with different shapes",
        hint="a branch that only some ranks take; --env TORCH_DISTRIBUTED_DEBUG=DETAIL shows both sides",
    ),
    Signature(
        code="net.mismatch",
        sign=("op.preamble.length <= op.nbytes",),
        pattern=r"length <= op\.nbytes\. (?P<sent>\d+) vs (?P<wanted>\d+)",
        means="a peer sent {sent} bytes where this rank expected {wanted}: ranks called a collective with "
        "different shapes, or different collectives",
        hint="a branch that only some ranks take, or a last batch that is smaller; --env "
        "TORCH_DISTRIBUTED_DEBUG=DETAIL shows both sides",
    ),
    Signature(
        code="net.ddp-differ",
        sign=(
            "appears not to match sizes of the same param in process",
            "DDP expects same model across all ranks",
        ),
        detail=r"same model across all ranks, but (?P<what>[^.]*)",
        means="the model is not the same on all ranks[: {what}]",
        hint="the same code, config and seed on all hosts: clusterctl launch shows what it copies (line "
        "`code`)",
    ),
    Signature(
        code="net.monitored-barrier",
        role="cascade",
        sign=("monitoredBarrier",),
        pattern=r"(?:[Rr]anks? (?P<ranks>[\d, ]+) failed to (?:pass|call into) monitoredBarrier"
        r"|failed to pass monitoredBarrier)",
        means="[rank {ranks} ]did not reach the barrier in time",
        hint="that rank stands still or has failed: clusterctl logs {run} --rank[ {ranks}] --tail 50",
    ),
    Signature(
        code="net.gloo-timeout",
        role="cascade",
        sign=("Application timeout caused pair closure", "Timed out waiting", "Wait timeout"),
        detail=r"Timed out waiting (?P<limit>\d+)ms",
        means="it waited for a peer that did not come[ within {limit} ms]",
        hint="the rank that does not say this stands still: " + _EARLIER,
    ),
    Signature(
        code="data.worker-gone",
        sign=("ConnectionResetError", "EOFError", "BrokenPipeError", "ConnectionRefusedError"),
        near=r"multiprocessing/(?:connection|queues|resource_sharer|reduction)\.py|torch/multiprocessing/",
        means="a process that this rank had started, as a rule a data loader, has ended",
        hint="what it said stands in {log}; num_workers=0 shows its error in the rank itself; was it killed "
        "for memory? as root on {host}: journalctl -k --since -1h | grep -i kill",
    ),
    Signature(
        code="net.peer-gone",
        role="cascade",
        sign=(
            "Connection closed by peer",
            "Connection reset by peer",
            "Broken pipe",
            "Socket closed",
            "socket closed",
        ),
        detail=r"\[(?P<peer>[\d.a-f:]+)\]:\d+",
        means="its connection to a peer[ ({peer})] was closed: that process has ended",
        hint=_EARLIER,
    ),
    Signature(
        code="net.refused",
        role="cascade",
        sign=("Connection refused", "ECONNREFUSED"),
        detail=r"\(?(?P<peer>[\w.-]+\.[\w.-]+)[:, ]+(?P<port>\d{2,5})\)?",
        means="nobody listens at the other end[ ({peer} port {port})]: that process has not started, or "
        "has ended",
        hint="a rank failed before, or the address is another machine's: clusterctl doctor",
    ),
    Signature(
        code="net.aborted",
        role="cascade",
        sign=("NCCL communicator was aborted", "taking the entire process down"),
        means="NCCL was aborted here after a failure elsewhere, or after a timeout",
        hint=_EARLIER,
    ),
    Signature(
        code="net.unanswered",
        role="cascade",
        sign=("Connection timed out", "ETIMEDOUT"),
        means="a peer does not answer: its host or the link to it is gone, or a firewall drops what is sent",
        hint="clusterctl doctor tries every pair both ways",
    ),
)
