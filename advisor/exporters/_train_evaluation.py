"""The part of train.py that evaluates the model, and what differs by the metric in it."""

from __future__ import annotations

EVALUATION = '''

def evaluate(model, rows, pad_token_id, device):
    """Held-out loss in nats per label, and the metric: $what."""
    was_training = model.training
    model.eval()
    loss_sum, labels_seen = 0.0, 0
    $none_yet
    by_length = np.argsort(rows.lengths_tokens, kind="stable")
    with torch.no_grad():
        for start in range(0, len(by_length), $at_once):
            batch = to_device(collate(rows, by_length[start : start + $at_once], pad_token_id, TASK), device)
            logits = label_logits(model(**forward_inputs(model, batch, TASK)).logits, batch, TASK)
            labels = batch["labels"]
            kept = labels != -100
            loss_sum += torch.nn.functional.cross_entropy(logits[kept].float(), labels[kept], reduction="sum").item()
            labels_seen += int(kept.sum())
$judge
    model.train(was_training)
    return loss_sum / max(1, labels_seen), $metric


def to_device(batch, device):
    return {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
'''

RIGHT_SHARE = {
    "none_yet": "hits, judged = 0, 0",
    "judge": """            right = (logits.argmax(-1) == labels) & kept
            if METRIC == "exact match":
                hits += int((right | ~kept).all(-1).sum())
                judged += len(labels)
            else:
                hits += int(right.sum())
                judged += int(kept.sum())""",
    "metric": "hits / max(1, judged)",
}
MEAN_F1 = {
    "none_yet": "predicted, right = [], []",
    "judge": """            predicted += logits.argmax(-1)[kept].tolist()
            right += labels[kept].tolist()""",
    "metric": "macro_f1(predicted, right)",
}
