"""Ray as what runs the workers of bulk scans on many machines; needs the extra ``ray``."""

from d3.adapters.ray.cluster import RayCluster

__all__ = ["RayCluster"]
