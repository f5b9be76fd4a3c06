"""The sentence encoder of the demo has its real weights and is what a compiler can take in."""

import os

import minilm
import torch
from torch.export import export


def embeddings(network, *sentences):
    with torch.no_grad():
        return network(*minilm.tokenise(sentences))


def test_paraphrases_are_closer_than_unrelated_sentences(sentence_encoder):
    network, _, _ = sentence_encoder
    first, paraphrase, unrelated = embeddings(
        network,
        "The file could not be opened because it does not exist.",
        "Opening failed: there is no such file.",
        "Our neighbours planted tulips along the garden wall.",
    )
    assert first @ paraphrase > 0.6
    assert first @ unrelated < 0.2


def test_random_weights_do_not_tell_paraphrases_apart(sentence_encoder):
    network, _, _ = sentence_encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = minilm.SentenceEncoder(type(network.encoder)(network.encoder.config)).eval()
    first, paraphrase, unrelated = embeddings(
        untrained,
        "The file could not be opened because it does not exist.",
        "Opening failed: there is no such file.",
        "Our neighbours planted tulips along the garden wall.",
    )
    assert abs(first @ paraphrase - first @ unrelated) < 0.2


def test_embedding_is_a_unit_vector_that_ignores_padding(sentence_encoder):
    network, _, _ = sentence_encoder
    short = "A short one."
    (alone,) = embeddings(network, short)
    padded, _ = embeddings(network, short, "A sentence of many more words than the other one has.")
    torch.testing.assert_close(alone.norm(), torch.tensor(1.0))
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-6)

    ids, mask = minilm.tokenise([short, "A sentence of many more words than the other one has."])
    with torch.no_grad():
        unmasked = network(ids, torch.ones_like(mask))[0]
    assert (unmasked - alone).abs().max() > 1e-2


def test_export_serves_other_batches_and_lengths_than_the_example(sentence_encoder):
    network, args, dynamic_shapes = sentence_encoder
    exported = export(network, args, dynamic_shapes=dynamic_shapes).module()
    for batch, length in [(1, 1), (3, 40), (1, minilm.LONGEST)]:
        ids = torch.arange(1000, 1000 + batch * length).reshape(batch, length)
        mask = torch.ones_like(ids)
        mask[-1, length // 2 + 1 :] = 0
        with torch.no_grad():
            torch.testing.assert_close(exported(ids, mask), network(ids, mask), rtol=0, atol=1e-6)


def test_calibration_and_held_out_sentences_are_real_disjoint_and_repeatable():
    sentences = minilm.sentences()
    assert len(set(sentences)) == len(sentences) >= 456
    for batches, count in [(minilm.calibration(), 256), (minilm.held_out(), 200)]:
        assert sum(len(ids) for ids, _ in batches) == count
        assert {len(ids) for ids, _ in batches} >= set(minilm.BATCH_SIZES)
        assert len({ids.shape[1] for ids, _ in batches}) > 10
    seen = {tuple(row[row != 0].tolist()) for ids, _ in minilm.calibration() for row in ids}
    kept = {tuple(row[row != 0].tolist()) for ids, _ in minilm.held_out() for row in ids}
    assert not seen & kept

    minilm.sentences.cache_clear()
    assert minilm.sentences() == sentences


def test_model_hubs_are_out_of_reach():
    from huggingface_hub import constants

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert constants.HF_HUB_OFFLINE
