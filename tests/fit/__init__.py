"""What `clusterctl fit` says beside what real training does: tensors counted in real DeepSpeed processes."""
