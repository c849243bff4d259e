"""How resources of a network go with their stack: moto's own models of them have no way to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_ATTRIBUTE: Final = "delete"
"""What moto's CloudFormation calls, with account and region."""


def add_deletions(models: dict[str, Any]) -> None:
    """Give those models a `delete`."""
    for name, delete in _DELETIONS.items():
        setattr(models[name], _ATTRIBUTE, delete)


def _backend(account: str, region: str) -> Any:
    from moto.ec2.models import ec2_backends

    return ec2_backends[account][region]


def _route_table(table: Any, account: str, region: str) -> None:
    backend = _backend(account, region)
    for association in list(table._associations):
        backend.disassociate_route_table(association)
    backend.delete_route_table(table.id)


def _internet_gateway(gateway: Any, account: str, region: str) -> None:
    backend = _backend(account, region)
    if gateway.vpc:
        backend.detach_internet_gateway(gateway.id, gateway.vpc.id)
    backend.delete_internet_gateway(gateway.id)


def _endpoint(endpoint: Any, account: str, region: str) -> None:
    _backend(account, region).vpc_end_points.pop(endpoint.id, None)


def _with_its_owner(_resource: Any, _account: str, _region: str) -> None:
    """Routes and associations go with their table, attachments with their gateway."""


_DELETIONS: Final[dict[str, Callable[[Any, str, str], None]]] = {
    "AWS::EC2::InternetGateway": _internet_gateway,
    "AWS::EC2::Route": _with_its_owner,
    "AWS::EC2::RouteTable": _route_table,
    "AWS::EC2::SubnetRouteTableAssociation": _with_its_owner,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::VPCGatewayAttachment": _with_its_owner,
}
