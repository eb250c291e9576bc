"""The registry, batch norm in its two modes, folding, vmap and dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from gaxjax import models
from gaxjax.common.errors import UserError
from gaxjax.models.layers import BatchNorm, Conv


@functools.cache
def small_resnet_parts(head_bias):
    return nnx.split(
        models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0), head_bias=head_bias)
    )


def small_resnet(head_bias=True):
    return nnx.merge(*jax.tree.map(jnp.array, small_resnet_parts(head_bias)))


@functools.partial(jax.jit, static_argnums=0)
def _logits(graph, state, x):
    return nnx.merge(graph, state)(x)


def logits(model, x):
    """One compilation for the whole model; called plainly, each operation would be its own."""
    return _logits(*nnx.split(model), x)


def randomise_norms(model, seed=0):
    """Give every batch norm its own numbers: with the initial ones, folding would be trivial."""
    rng = np.random.default_rng(seed)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            size = module.scale.shape
            module.scale[...] = jnp.asarray(rng.uniform(0.5, 1.5, size), jnp.float32)
            module.var[...] = jnp.asarray(rng.uniform(0.5, 2.0, size), jnp.float32)
            module.bias[...] = jnp.asarray(rng.normal(0, 0.3, size), jnp.float32)
            module.mean[...] = jnp.asarray(rng.normal(0, 0.3, size), jnp.float32)
    return model


def images(size=32, num_images=3, seed=1):
    return jax.random.normal(jax.random.key(seed), (num_images, size, size, 3))


def test_every_architecture_named_in_the_design_is_registered():
    named = "alexnet resnet18 resnet34 resnet50 resnet101 resnet152 wide_resnet50_2 "
    named += "wide_resnet101_2 resnext50_32x4d resnext101_32x8d resnext101_64x4d squeezenet1_0 "
    named += "squeezenet1_1 vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn "
    named += "small_resnet"
    assert set(named.split()) == set(models.architectures())


def test_an_unknown_architecture_names_the_nearest_one():
    with pytest.raises(UserError, match="unknown architecture 'resnet43'; did you mean 'resnet34'"):
        models.build("resnet43", num_classes=2, rngs=nnx.Rngs(0))


def test_a_classifier_without_classes_is_refused():
    with pytest.raises(UserError, match="at least 1 class; got num_classes=0"):
        models.build("alexnet", num_classes=0, rngs=nnx.Rngs(0))


ONE_OF_EACH_KIND = {"alexnet", "resnet18", "resnet50", "small_resnet", "squeezenet1_0", "vgg11_bn"}
ARCHITECTURES = [
    pytest.param(name, marks=() if name in ONE_OF_EACH_KIND else pytest.mark.slow)
    for name in models.architectures()
]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_maps_images_to_one_logit_per_class_within_vmap(name):
    model = models.abstract(name, num_classes=5, head_bias=False)
    graph, state = nnx.split(model)

    def one_image(state, image):
        return nnx.merge(graph, state)(image[None])[0]

    batch = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    logits = jax.eval_shape(jax.vmap(one_image, in_axes=(None, 0)), state, batch)
    assert logits.shape == (2, 5)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_bfloat16_model_computes_every_convolution_and_matmul_in_bfloat16(name):
    graph, state = nnx.split(models.abstract(name, num_classes=5))
    bfloat16 = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, jnp.bfloat16), state)
    batch = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.bfloat16)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(bfloat16, batch)
    heavy = [
        variable.aval.dtype
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name in ("conv_general_dilated", "dot_general")
        for variable in (*equation.invars, *equation.outvars)
    ]
    assert heavy
    assert set(heavy) == {jnp.dtype(jnp.bfloat16)}
    assert jaxpr.out_avals[0].dtype == jnp.bfloat16


def test_a_built_model_is_in_inference_mode_and_its_images_do_not_meet():
    model = randomise_norms(small_resnet())
    x = images()
    np.testing.assert_allclose(
        logits(model, x)[:1], logits(model, x[:1]), atol=1e-5, rtol=0
    )  # measured 6.0e-7


def test_the_head_has_no_bias_when_told_so():
    assert small_resnet(head_bias=False).fc.bias is None
    assert small_resnet().fc.bias.shape == (10,)


@pytest.mark.parametrize("size", [17, 32, 64])
def test_small_resnet_takes_images_of_any_size(size):
    graph, state = nnx.split(small_resnet())
    x = jax.ShapeDtypeStruct((3, size, size, 3), jnp.float32)
    assert jax.eval_shape(lambda x: nnx.merge(graph, state)(x), x).shape == (3, 10)


def test_folded_batch_norm_leaves_the_logits_and_the_model_alone():
    model = randomise_norms(small_resnet())
    before = jax.tree.map(np.array, nnx.state(model))
    folded = models.fold_batch_norm(model)
    with jax.default_matmul_precision("highest"):
        wanted, given = logits(model, images()), logits(folded, images())
    scale = jnp.abs(wanted).max()
    np.testing.assert_allclose(given / scale, wanted / scale, atol=5e-6, rtol=0)  # measured 1.8e-7
    kinds = [type(module) for _, module in nnx.iter_modules(folded)]
    assert BatchNorm not in kinds
    assert kinds.count(Conv) == 9
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))


def test_batch_norm_in_training_mode_equals_torchs_and_moves_its_statistics_alike():
    x = np.random.default_rng(0).normal(1.5, 2.0, (4, 5, 6, 3)).astype(np.float32)
    ours, torchs = BatchNorm(3, rngs=nnx.Rngs(0)), torch.nn.BatchNorm2d(3)
    ours.train()
    for _ in range(3):
        y = ours(jnp.asarray(x))
        wanted = torchs(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(y, wanted.detach().numpy().transpose(0, 2, 3, 1), atol=2e-6)
    np.testing.assert_allclose(ours.mean[...], torchs.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.var[...], torchs.running_var.numpy(), rtol=1e-6)


def test_training_mode_reaches_every_batch_norm_and_eval_takes_it_back():
    model = small_resnet()
    norms = [module for _, module in nnx.iter_modules(model) if isinstance(module, BatchNorm)]
    assert len(norms) == 9
    model.train()
    assert not any(norm.use_running_average for norm in norms)
    model.eval()
    assert all(norm.use_running_average for norm in norms)


def test_dropout_drops_in_training_mode_once_it_has_a_random_stream():
    from gaxjax.models.layers import Dropout

    dropout, ones = Dropout(0.5), jnp.ones((2, 100))
    np.testing.assert_array_equal(dropout(ones), ones)
    dropout.train()
    dropout.rngs = nnx.Rngs(0)
    assert 20 < (dropout(ones) == 0).sum() < 180
