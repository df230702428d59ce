"""A learned schedule in the Hugging Face Trainer: python examples/hugging_face.py [POLICY]"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from rlsched.integrations.huggingface import attach

POLICY = sys.argv[1] if len(sys.argv) > 1 else None  # none: the one that comes with rlsched

text = torch.tensor(list(Path(__file__).read_bytes())).unfold(0, 32, 7)
data = [{"input_ids": row, "labels": row} for row in text]
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
)

with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(folder, max_steps=60, learning_rate=1e-3, eval_strategy="steps", eval_steps=3,
                             use_cpu=True, report_to="none", save_strategy="no")  # fmt: skip
    trainer = Trainer(model, args, train_dataset=data[:-32], eval_dataset=data[-32:])
    attach(trainer, POLICY)
    trainer.train()
    print("validation loss", round(trainer.evaluate()["eval_loss"], 3))
    print("learning rates", trainer.lr_scheduler.history()["lr"][:, 0])
