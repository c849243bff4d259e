"""Which types of resources a stack may have here, without anything being made of them."""

from __future__ import annotations

from typing import Final

ONLY_CHECKED: Final = frozenset(
    {
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::CloudFront::CachePolicy",
        "AWS::CloudFront::Distribution",
        "AWS::CloudWatch::Alarm",
        "AWS::DocDB::DBCluster",
        "AWS::DocDB::DBInstance",
        "AWS::DocDB::DBSubnetGroup",
        "AWS::Logs::MetricFilter",
        "AWS::RDS::DBInstance",
        "AWS::RDS::DBSubnetGroup",
    }
)
"""Types that stacks may have although nothing is made of them here; others are refused."""
