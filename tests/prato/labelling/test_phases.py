import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.labelling.phases import approve, send_back, submit, submitted_states, trusted_phases
from prato.labelling.records import LabelVersionError, Phase

STATES = st.sampled_from(["proposed", "corrected"])
PEOPLE = st.sampled_from(["anna", "ben"])


def corrected(editor="anna", version=1):
    return Phase(state="corrected", editor=editor, version=version)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (3, {3: "corrected"}),
        ([0, 4], {0: "corrected", 4: "corrected"}),
        ({"2": "proposed", "4": "corrected"}, {2: "proposed", 4: "corrected"}),
        (None, {1: "corrected", 2: "corrected"}),
    ],
)
def test_a_client_says_which_phases_it_submits(sent, read):
    assert submitted_states({} if sent is None else {"phases": sent}, 5, changed=[2, 1]) == read


@pytest.mark.parametrize(
    "sent", [5, -1, True, 1.0, "x", [0, 9], {"7": "corrected"}, {"0": "final"}, {"0": "done"}, {"0": None}, [[0]], [], {}]
)
def test_phases_and_states_that_there_are_not_are_refused(sent):
    with pytest.raises(LabelVersionError):
        submitted_states({"phases": sent}, 5, changed=[])


@pytest.mark.slow
@given(st.lists(st.tuples(PEOPLE, st.dictionaries(st.integers(0, 4), STATES)), max_size=8))
def test_a_proposal_never_replaces_what_a_labeller_drew_and_others_phases_stay(turns):
    phases = {}
    for version, (person, states) in enumerate(turns, 1):
        after = submit(phases, states, person, version)
        replaced = {n for n in after if after[n].version == version}
        assert all(after[n] == phases[n] for n in phases if n not in replaced)
        assert all(after[n] == Phase(state=states[n], editor=person, version=version) for n in replaced)
        assert replaced == {n for n, state in states.items() if state == "corrected" or n not in phases or phases[n].state == "proposed"}
        phases = after


@pytest.mark.parametrize("approver", ["zoë Meier", "Zoe\u0308 Meier", "Zoë  Meier", "Zoë\u00a0Meier"])
def test_a_name_that_is_typed_otherwise_is_no_other_persons(approver):
    with pytest.raises(LabelVersionError, match="somebody else has to approve it"):
        approve({0: corrected("Zoë Meier")}, [0], approver)


def test_somebody_else_approves():
    final = approve({0: corrected("anna"), 1: corrected("ben")}, [0], "ben")
    assert (final[0].state, final[0].approved_by, final[1].state) == ("final", "ben", "corrected")
    with pytest.raises(LabelVersionError, match="drawn by anna"):
        approve({0: corrected("anna")}, [0], "anna")
    assert approve({0: corrected("anna")}, [0], "anna", alone=True)[0].state == "final"


@pytest.mark.parametrize("phases", [{}, {0: Phase(state="proposed", editor="a model", version=1)}])
def test_only_a_labeller_s_work_is_approved_or_sent_back(phases):
    with pytest.raises(LabelVersionError):
        approve(phases, [0], "ben")
    with pytest.raises(LabelVersionError):
        send_back(phases, [0], "the apex is missing")


def test_what_is_sent_back_is_not_trained_on_until_it_is_corrected():
    phases = {3: corrected(), 1: corrected("ben")}
    back = send_back(phases, [3], "the apex is missing")
    assert trusted_phases(phases) == [1, 3]
    assert trusted_phases(back) == [1]
    assert back[3].reason == "the apex is missing"
    assert submit(back, {3: "proposed"}, "a model", 2) == back  # it is somebody's work all the same
    again = submit(back, {3: "corrected"}, "anna", 2)
    assert again[3].reason is None
    assert trusted_phases(again) == [1, 3]


def test_a_new_correction_of_a_final_phase_has_to_be_approved_again():
    final = approve({0: corrected("anna")}, [0], "ben")
    after = submit(final, {0: "corrected"}, "ben", 2)
    assert (after[0].state, after[0].approved_by) == ("corrected", None)
