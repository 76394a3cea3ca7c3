"""The second stage: pooled regions to classes, boxes, masks and keypoints."""
