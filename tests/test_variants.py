"""Which variants a study has, and what of their config is refused."""

import pytest

from elr_mri import config, variants
from elr_mri.errors import BadInput
from elr_mri.variants import looked_at

COHORTS = [{"name": "A", "format": "adni", "path": "a"}]


def study(ablations: dict, **models: dict) -> config.Study:
    told = {"cohorts": COHORTS, "explain": {"model": next(iter(models))}, "train": {"models": models}}
    return config.parse(config.Study, {**told, "ablations": ablations}, where="here")


def test_the_talk_s_ablations_each_change_one_thing_of_the_base():
    made = study({}, alexnet={"network": "alexnet"}, **{"wide-age": {"network": "wide", "age": "sinusoid"}}).ablated()
    base = config.Model(network="wide", age="sinusoid").model_dump()
    changed = {slug: {k: v for k, v in m.model_dump().items() if v != base[k]} for slug, m in made.items()}
    assert all(changed.values())
    alone = {slug: keys for slug, keys in changed.items() if "stride" not in slug}
    assert all(len(keys) == 1 for keys in alone.values())
    assert changed["first-stride-2"] == {"first_stride": 2, "first_pool": False}
    found = {(key, value) for keys in alone.values() for key, value in keys.items()}
    assert found == {
        *(("width", w) for w in (1, 2, 4)),
        *(("first_kernel", k) for k in (3, 5)),
        *(("depth", d) for d in (5, 6)),
        *(("norm", n) for n in ("batch", "group", "none")),
        *(("age", a) for a in ("none", "scalar")),
    }


def test_what_a_network_or_a_study_without_first_pool_cannot_take_is_not_derived():
    resnet = variants.talks({"network": "resnet18", "norm": "batch"})
    assert "norm-none" not in resnet and "norm-instance" in resnet and not any("depth" in slug for slug in resnet)
    assert not any("stride" in slug for slug in variants.talks({"network": "wide", "first_pool": False}))


def test_a_variant_is_its_base_with_its_own_keys_before_it():
    wide = {"network": "wide", "width": 2, "elr": {"weight": 1.0}, "learning_rate": 0.1}
    told = study({"base": "wide", "variants": {"plain": {"elr": None, "epochs": 3}}}, wide=wide)
    assert told.ablated() == {"plain": config.Model(network="wide", width=2, learning_rate=0.1, epochs=3)}
    recipe = told.training().of("plain")
    assert (recipe.epochs, recipe.learning_rate) == (3, 0.1)
    assert list(told.train.models) == ["wide"]


def test_the_workflow_and_the_package_mean_the_same_variants():
    """The workflow's come from the plain config, the package's from the checked one."""
    models = {"wide": {"network": "wide", "width": 4, "first_pool": False}}
    checked = study({}, **models).ablated()
    plain = variants.variants(models, {})
    assert checked == {slug: config.Model.model_validate(keys) for slug, keys in plain.items()}


@pytest.mark.parametrize(
    ("ablations", "told"),
    [
        ({"base": "wdie"}, "ablations.base must be one of wide, got 'wdie'"),
        ({"variants": {"wide": {"width": 2}}}, "other names than train.models.*got 'wide'"),
        ({"variants": {"explain": {"width": 2}}}, "other names than train.models.*got 'explain'"),
        ({"variants": {"a_b": {"width": 2}}}, "named in a-z, 0-9 and -, got 'a_b'"),
        ({"variants": {"same": {}}}, "ablations.variants.same must change a key"),
        ({"variants": {"a": {"widht": 2}}}, "Did you mean 'width'"),
        ({"variants": {"a": {"width": 0}}}, "ablations.variants.a.width"),
        ({"variants": {"a": {"network": None}}}, "ablations.variants.a.network"),
        ({"varaints": {}}, "Did you mean 'variants'"),
    ],
)
def test_a_fault_of_the_section_is_told_in_one_line(ablations, told):
    with pytest.raises(BadInput, match=told) as refused:
        study(ablations, wide={"network": "wide"})
    assert "\n" not in str(refused.value)


def test_what_is_looked_at_by_default_is_the_reference_and_the_explained_model_and_no_other():
    config = {"explain": {"model": "wide"}, "report": {"reference": "wide-ensemble"}}
    assert looked_at({}, "subgroups") == ["volumes"] and looked_at(config, "progression") == ["wide-ensemble", "wide"]
    assert looked_at({"report": {"reference": "wide"}} | {"explain": {"model": "wide"}}, "subgroups") == ["wide"]
    assert looked_at(config | {"subgroups": {"models": ["fused", "volumes"]}}, "subgroups") == ["fused", "volumes"]
