"""The on-disk forms of all datasets."""

from tests.cross4d_cache.datasets.examples import deforming_things4d, folder, hoi4d, msr_action3d, ntu_rgbd

EXAMPLES = (*msr_action3d.EXAMPLES, *deforming_things4d.EXAMPLES, *ntu_rgbd.EXAMPLES, *hoi4d.EXAMPLES, *folder.EXAMPLES)
