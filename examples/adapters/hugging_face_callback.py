"""The doctor as a callback of Hugging Face's Trainer, on a small GPT-2 with fresh weights and made-up text.

pip install 'isometry[transformers]'
python examples/adapters/hugging_face_callback.py
"""

import tempfile

import torch
from isometry.adapters.hugging_face import DoctorCallback
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

VOCABULARY, LENGTH = 32, 16


class Counting(Dataset):
    """Sequences that count upwards from somewhere."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = (torch.arange(LENGTH) + index) % VOCABULARY
        return {"input_ids": tokens, "labels": tokens}


def main() -> None:
    set_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, **ends)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=40, per_device_train_batch_size=16, use_cpu=True, report_to="none", save_strategy="no"
        )
        trainer = Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=Counting())
        doctor = DoctorCallback(every=20, tell=print, log=trainer.log)
        trainer.add_callback(doctor)
        trainer.train()
    if doctor.examination is not None:
        print(doctor.examination.text())
    print({name: round(value, 6) for name, value in doctor.last.summary().items()})


if __name__ == "__main__":
    main()
