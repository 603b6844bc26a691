// Every operator of wsis: the table of contents. What each computes stands in wsis/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(wsis, m) {
  // Affinity of neighbours from a boundary map (IRNet, section 4.1).
  m.def("edge_to_affinity(Tensor boundary, int radius) -> Tensor");
  m.def("edge_to_affinity_backward(Tensor grad_affinity, Tensor boundary, int radius) -> Tensor");

  // Propagation of seeds by a random walk (IRNet, section 4.2).
  m.def(
      "random_walk(Tensor seeds, Tensor boundary, Tensor image_index, Tensor? sizes, int radius, float beta, "
      "int num_steps, float tol, bool exact) -> Tensor");
  m.def(
      "random_walk_backward(Tensor grad, Tensor seeds, Tensor boundary, Tensor image_index, Tensor? sizes, "
      "int radius, float beta, int num_steps, float tol, bool exact, bool need_boundary) -> (Tensor, Tensor)");

  // The four losses of IRNet training (section 4.1 and 4.2).
  m.def(
      "inter_pixel_loss(Tensor boundary_logits, Tensor displacement, Tensor seeds, int radius) -> "
      "(Tensor losses, Tensor counts, Tensor state)");
  m.def(
      "inter_pixel_loss_backward(Tensor grad_losses, Tensor boundary_logits, Tensor seeds, Tensor counts, "
      "Tensor state) -> (Tensor, Tensor)");

  // Pixels follow the displacement field to their centroid (IRNet, section 4.3).
  m.def("trace_displacement(Tensor displacement, Tensor? sizes, int num_steps) -> Tensor");

  // Instances as id maps.
  m.def(
      "connected_components(Tensor labels, Tensor? sizes, int connectivity, int? background) -> "
      "(Tensor ids, Tensor counts)");
  m.def(
      "instance_stats(Tensor ids, Tensor? scores, Tensor? sizes, int capacity) -> (Tensor area, Tensor box, "
      "Tensor moment, Tensor score_max, Tensor score_sum, Tensor peak, Tensor outside)");

  m.def("filter_ids(Tensor ids, int min_area, int max_area) -> (Tensor kept, Tensor counts)");

  // What a network says of each pixel's own class (BESTIE, section 3.3).
  m.def("class_scores(Tensor semantic, Tensor center, Tensor labels) -> (Tensor probability, Tensor heat)");

  // Local maxima of heatmaps, and the table that belongs to them (BESTIE, section 3.3).
  m.def("peak_mask(Tensor heatmap, Tensor? ids, int window, float threshold) -> Tensor");

  // Pixels vote for the nearest centre of their own component (BESTIE, section 3.3).
  m.def(
      "group_pixels(Tensor offsets, Tensor foreground, Tensor center_yx, Tensor component, Tensor id) -> Tensor");

  // Centre heatmaps, offsets and weights of instances (BESTIE, section 3.2).
  m.def(
      "center_target(Tensor ids, Tensor key, Tensor label, Tensor score, Tensor center_yx, Tensor bell, "
      "int num_classes, int reach) -> (Tensor center, Tensor offset, Tensor weight)");

  // Weighted errors of a prediction against one or two targets (BESTIE, section 3.4).
  m.def(
      "weighted_error(Tensor prediction, Tensor target, Tensor weight, Tensor? target_b, Tensor? weight_b, "
      "int power) -> (Tensor sums, Tensor counts)");
  m.def(
      "weighted_error_backward(Tensor factor, Tensor prediction, Tensor target, Tensor weight, Tensor? target_b, "
      "Tensor? weight_b, int power) -> Tensor");

  // Mean field with permutohedral filtering (Kraehenbuehl and Koltun 2011).
  m.def(
      "dense_crf(Tensor images, Tensor labels, Tensor num_labels, Tensor image_index, Tensor? sizes, float gt_prob, "
      "int steps, float spatial_sxy, float spatial_weight, float bilateral_sxy, float bilateral_srgb, "
      "float bilateral_weight, int max_labels) -> Tensor");

  // COCO run-length codes of id maps.
  m.def(
      "mask_rle(Tensor ids, Tensor? sizes, int capacity) -> (Tensor image_index, Tensor id, Tensor offsets, "
      "Tensor codes)");

  // Pixels that masks of two sets have in common.
  m.def(
      "mask_iou(Tensor masks_a, Tensor masks_b, Tensor? image_a, Tensor? image_b) -> (Tensor intersection, "
      "Tensor area_a, Tensor area_b)");
}
