import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from llmpipe import BlockDataset, chunk

BLOCKS = np.arange(20 * 8, dtype=np.uint32).reshape(20, 8) + 50_000


def test_items_are_int64_inputs_and_labels():
    item = BlockDataset(BLOCKS)[3]
    assert set(item) == {"input_ids", "labels"}
    for values in item.values():
        assert values.dtype == torch.int64
        assert values.tolist() == BLOCKS[3].tolist()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("fast", [False, True])
def test_an_epoch_holds_every_block_once(fast, num_workers):
    options = {"collate_fn": BlockDataset.collate} if fast else {}
    loader = DataLoader(
        BlockDataset(BLOCKS), batch_size=3, shuffle=True, num_workers=num_workers, **options
    )
    batches = list(loader)
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(3, 8)] * 6 + [(2, 8)]
    rows = torch.cat([batch["input_ids"] for batch in batches])
    assert sorted(rows.tolist()) == BLOCKS.tolist()
    assert torch.equal(rows, torch.cat([batch["labels"] for batch in batches]))


def test_both_collations_give_the_same_batches():
    dataset = BlockDataset(BLOCKS)
    plain = list(DataLoader(dataset, batch_size=4))
    fast = list(DataLoader(dataset, batch_size=4, collate_fn=BlockDataset.collate))
    assert len(plain) == len(fast) == 5
    for left, right in zip(plain, fast, strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
    by_hand = BlockDataset.collate([dataset[0], dataset[1]])
    assert by_hand["input_ids"].tolist() == BLOCKS[:2].tolist()


def test_the_collators_of_transformers_take_the_rows():
    from transformers import DataCollatorForLanguageModeling, default_data_collator

    from llmpipe import load_tokenizer

    tokenizer = load_tokenizer("gpt2").to_transformers()
    tokenizer.pad_token = tokenizer.eos_token
    for collator in (DataCollatorForLanguageModeling(tokenizer, mlm=False), default_data_collator):
        loader = DataLoader(BlockDataset(BLOCKS % 64), batch_size=4, collate_fn=collator)
        rows = torch.cat([batch["input_ids"] for batch in loader])
        assert rows.tolist() == (BLOCKS % 64).tolist()


def test_masking_labels_changes_neither_inputs_nor_blocks():
    dataset = BlockDataset(BLOCKS)
    batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=BlockDataset.collate)))
    batch["labels"].fill_(-100)
    assert batch["input_ids"].tolist() == BLOCKS[:2].tolist()
    assert dataset.blocks.tolist() == BLOCKS.tolist()


def test_indices_behave_like_a_list():
    dataset = BlockDataset(BLOCKS)
    assert len(dataset) == 20
    assert dataset[-1]["input_ids"].tolist() == BLOCKS[-1].tolist()
    for index in (20, -21):
        with pytest.raises(IndexError, match=f"block {index} of 20"):
            dataset[index]


def test_a_pair_and_a_slice_are_refused():
    with pytest.raises(TypeError, match="pass the blocks alone"):
        BlockDataset(chunk(BLOCKS.ravel(), 8))
    with pytest.raises(TypeError, match="integer"):
        BlockDataset(BLOCKS)[0:2]


@pytest.mark.parametrize("blocks", [np.zeros(5, np.int64), np.zeros((2, 2)), [["a"]]])
def test_what_is_no_block_is_refused(blocks):
    with pytest.raises(TypeError, match="num_blocks, block_size"):
        BlockDataset(blocks)


def tiny_model():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=8, n_embd=16, n_layer=1, n_head=2))


def test_trainer_takes_it_as_it_is(tmp_path):
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    blocks = (BLOCKS % 64).astype(np.uint16)
    trainer = Trainer(model=tiny_model(), args=arguments, train_dataset=BlockDataset(blocks))
    result = trainer.train()
    assert result.global_step == 3
    assert 0 < result.training_loss < 10


def test_accelerate_takes_its_loader_as_it_is():
    from accelerate import Accelerator

    loader = DataLoader(BlockDataset(BLOCKS % 64), batch_size=4, collate_fn=BlockDataset.collate)
    accelerator = Accelerator(cpu=True)
    model, loader = accelerator.prepare(tiny_model(), loader)
    losses = [model(**batch).loss.item() for batch in loader]
    assert len(losses) == 5
    assert all(0 < loss < 10 for loss in losses)
