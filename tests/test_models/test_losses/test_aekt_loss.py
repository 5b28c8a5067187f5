"""AEKTLoss: against an independent formula, its identities, pinned values, the number formats, the refusals."""
import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmkd_atsc.models.losses import AEKTLoss, aekt_functional
from mmkd_atsc.models.losses.aekt_closed_form import closed_form
from mmkd_atsc.models.losses.aekt_functional import aekt_loss
from mmkd_atsc.registry import MODELS

# ---------------------------------------------------------------- the formula, sample by sample, in long double


def log_sum_exp(values):
    highest = values.max()
    return highest + np.log(np.exp(values - highest).sum())


def reference_for_class(student, teacher, target, tau, alpha, beta, gamma, form, limit):
    """Loss, gradient and the three terms of one sample, from DESIGN's formulas and masks, nothing shared."""
    u, v = student.astype(np.longdouble) / tau, teacher.astype(np.longdouble) / tau
    other = np.arange(len(u)) != target
    log_p, log_q = u - log_sum_exp(u), v - log_sum_exp(v)
    log_p_rest, log_q_rest = log_sum_exp(log_p[other]), log_sum_exp(log_q[other])
    p, q = np.exp(log_p), np.exp(log_q)
    p_rest, q_rest = np.exp(log_p_rest), np.exp(log_q_rest)
    log_p_hat, log_q_hat = log_p - log_p_rest, log_q - log_q_rest

    tckd = q[target] * (log_q[target] - log_p[target]) + q_rest * (log_q_rest - log_p_rest)
    nckd = (np.exp(log_q_hat[other]) * (log_q_hat[other] - log_p_hat[other])).sum()
    log_ratio = log_q[target] - log_p[target]
    log_limit = np.log(np.longdouble(limit))
    weight = np.exp(min(log_ratio, log_limit))

    direction = np.where(other, 0, 1).astype(np.longdouble)  # of the target's log-odds, by each logit
    direction[other] = -np.exp(log_p_hat[other])
    # p_t - q_t, from whichever of the two sides does not cancel
    surplus = p[target] - q[target] if p[target] < 0.5 else q_rest - p_rest
    gradient = alpha * surplus * direction
    gradient[other] += beta * (np.exp(log_p_hat[other]) - np.exp(log_q_hat[other]))
    if form == 'ratio':
        term = weight if log_ratio <= log_limit else limit * (1 + log_ratio - log_limit)
        gradient -= gamma * weight * p_rest * direction
    else:
        term = -weight * (log_p[target] - log_p_rest)
        gradient -= gamma * weight * direction
    loss = tau**2 * (alpha * tckd + beta * nckd + gamma * term)
    return loss, tau * gradient


def reference(student, teacher, labels, topk, **settings):
    """Losses (N,) and their gradients (N, C); labels are indices or scores."""
    rows = []
    for u, v, label in zip(student, teacher, labels):
        if np.ndim(label) == 0:
            rows.append(reference_for_class(u, v, label, **settings))
            continue
        chosen = sorted(range(len(label)), key=lambda c: -label[c])[:topk]
        mass = sum(np.longdouble(label[c]) for c in chosen)
        parts = [(label[c] / mass, *reference_for_class(u, v, c, **settings)) for c in chosen]
        rows.append((sum(share * loss for share, loss, _ in parts), sum(share * slope for share, _, slope in parts)))
    losses, gradients = zip(*rows)
    return np.array(losses), np.stack(gradients)


def bare_limit(dtype):
    return np.longdouble(torch.finfo(dtype).max) * np.longdouble(2)**-40


def random_case(seed, dtype):
    rng = np.random.default_rng(seed)
    num_classes = int(rng.choice([2, 3, 4, 10, 100, 1000, rng.integers(2, 1001)]))
    shape = (3, num_classes)
    student = rng.standard_normal(shape) * 10**rng.uniform(-1, 4) + rng.choice([0, 0, 1e3])
    teacher = rng.standard_normal(shape) * 10**rng.uniform(-1, 4)
    if rng.random() < 0.3:  # agreeing networks: small differences, which cancellation would spoil
        teacher = student + rng.standard_normal(shape) * 0.1
    labels = rng.integers(0, num_classes, 3)
    if rng.random() < 0.3:  # the label far ahead of the rest: p_t is 1 to the last digit
        student[np.arange(3), labels] += 10**rng.uniform(0, 4)
        teacher[np.arange(3), labels] += 10**rng.uniform(0, 4)
    topk = int(rng.integers(1, 6))
    soft = rng.random() < 0.5
    settings = dict(tau=float(rng.choice([0.5, 1, 4, 20, rng.uniform(0.5, 20)])), alpha=rng.uniform(0, 2),
                    beta=rng.uniform(0, 8), gamma=rng.choice([0.0, 1.0, 0.3]))
    form, max_ratio = str(rng.choice(['ratio', 'no_confidence'])), [None, 1.0, 2.0, 5.0][rng.integers(4)]
    student, teacher = (torch.tensor(x).to(dtype) for x in (student, teacher))
    labels = torch.tensor(rng.dirichlet(np.full(num_classes, 0.3), 3) if soft else labels)
    if soft:
        labels = (labels + 1e-6).to(dtype)
    return student, teacher, labels, topk, form, max_ratio, settings


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_thousand_random_cases_equal_the_formula(dtype, tolerance):
    """Errors are measured against tau**2 + |loss| for a loss, and tau + the row's largest entry for a gradient: what
    one unit of a term, or of a gradient by the logits over tau, amounts to after the factors of tau."""
    worst = {}
    for seed in range(1000):
        student, teacher, labels, topk, form, max_ratio, settings = random_case(seed, dtype)
        student.requires_grad_()
        losses = aekt_loss(student, teacher, labels, target_form=form, max_ratio=max_ratio, soft_target_topk=topk,
                           reduction='none', **settings)
        gradient, = torch.autograd.grad(losses.sum(), student)
        limit = bare_limit(dtype) if max_ratio is None else max_ratio
        want, want_gradient = reference(student.detach().numpy(), teacher.numpy(), labels.numpy(), topk,
                                                   form=form, limit=limit, **settings)
        tau = settings['tau']
        loss_error = np.abs(losses.detach().numpy() - want) / (tau**2 + np.abs(want))
        row_size = tau + np.abs(want_gradient).max(1)
        gradient_error = np.abs(gradient.numpy() - want_gradient).max(1) / row_size
        worst[seed] = max(loss_error.max(), gradient_error.max())
    seed = max(worst, key=lambda s: worst[s] if worst[s] == worst[s] else math.inf)
    assert worst[seed] <= tolerance, f'case {seed}: {worst[seed]:.2e}'


# ---------------------------------------------------------------- derivatives


def logits(num_samples=5, num_classes=6, scale=3.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, num_samples, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_samples, ), generator=generator)
    return student.to(dtype).requires_grad_(), teacher.to(dtype), labels


@pytest.mark.parametrize('max_ratio', [None, 1.0, 2.0, 5.0])
@pytest.mark.parametrize('topk', [0, 1, 2, 3, 6])
def test_gradcheck_of_the_ratio_form(max_ratio, topk):
    student, teacher, labels = logits()
    if topk:
        labels = torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ratios = (teacher.softmax(1) / student.softmax(1)).detach()
    assert (ratios > 5).any() and (ratios < 1).any()  # both sides of every bound
    assert torch.autograd.gradcheck(
        lambda u: aekt_loss(u, teacher, labels, tau=2.0, max_ratio=max_ratio, soft_target_topk=max(topk, 1),
                            reduction='none'), student)


def transcribed_target_term(student, teacher, labels, tau, max_ratio, form):
    """The target term for autograd, with the stop-gradients in place of derivatives by hand."""
    own = F.one_hot(labels, student.shape[1]).bool()
    u, v = student / tau, teacher / tau
    log_p, log_q = u.log_softmax(1)[own], v.log_softmax(1)[own]
    weight = (log_q - log_p).exp().clamp(max=math.inf if max_ratio is None else max_ratio).detach()
    if form == 'ratio':
        return -tau**2 * weight * log_p
    return -tau**2 * weight * (u[own] - u.masked_fill(own, -math.inf).logsumexp(1))


@pytest.mark.parametrize('max_ratio', [None, 1.0, 2.0])
@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
def test_target_term_has_the_gradient_of_its_stop_gradient_transcription(form, max_ratio):
    student, teacher, labels = logits(20)
    loss = aekt_loss(student, teacher, labels, tau=2.5, alpha=0, beta=0, max_ratio=max_ratio, target_form=form,
                     reduction='none')
    transcribed = transcribed_target_term(student, teacher, labels, 2.5, max_ratio, form)
    for losses in (loss, transcribed):
        losses.gradient, = torch.autograd.grad(losses.sum(), student)
    torch.testing.assert_close(loss.gradient, transcribed.gradient, rtol=1e-10, atol=1e-10)
    if form == 'no_confidence':
        torch.testing.assert_close(loss, transcribed, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
@pytest.mark.parametrize('soft', [False, True])
def test_gradient_rows_sum_to_zero(form, soft):
    student, teacher, labels = logits(50, 20)
    if soft:
        labels = torch.rand(50, 20, generator=torch.Generator().manual_seed(2))
    aekt_loss(student, teacher, labels, target_form=form, reduction='sum').backward()
    assert student.grad.abs().sum(1).min() > 1
    torch.testing.assert_close(student.grad.sum(1), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_pull_is_bounded_by_max_ratio():
    student = torch.tensor([[-100.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[100.0, 0.0, 0.0]])
    aekt_loss(student, teacher, torch.tensor([0]), tau=1.0, alpha=0, beta=0, max_ratio=2.0).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[-2.0, 1.0, 1.0]]))


def test_the_loss_is_smooth_where_the_bound_sets_in():
    """Equal logits have a ratio of exactly 1: from a little below to a little above it, nothing jumps."""
    teacher = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    step = torch.tensor([[1e-6, 0.0, 0.0]], dtype=torch.float64)
    results = []
    for student in (teacher - step, teacher + step):
        student.requires_grad_()
        loss = aekt_loss(student, teacher, torch.tensor([0]), alpha=0, beta=0, max_ratio=1.0)
        results.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_second_derivative_is_refused():
    student, teacher, labels = logits()
    with pytest.raises(RuntimeError, match='^the AEKT loss has no second derivative: .* without create_graph=True$'):
        torch.autograd.grad(aekt_loss(student, teacher, labels), student, create_graph=True)


def test_backward_twice_through_a_retained_graph():
    student, teacher, labels = logits()
    loss = aekt_loss(student, teacher, labels)
    first, = torch.autograd.grad(loss, student, retain_graph=True)
    second, = torch.autograd.grad(3 * loss, student)
    torch.testing.assert_close(second, 3 * first)


def test_each_sample_gets_its_own_share_of_the_incoming_gradient():
    student, teacher, labels = logits()
    weights = torch.arange(5, dtype=torch.float64)
    full, = torch.autograd.grad(aekt_loss(student, teacher, labels, reduction='sum'), student)
    weighed, = torch.autograd.grad((aekt_loss(student, teacher, labels, reduction='none') * weights).sum(), student)
    torch.testing.assert_close(weighed, full * weights.unsqueeze(1))


# ---------------------------------------------------------------- identities and invariances


def statistics(student, teacher, labels, **settings):
    loss = AEKTLoss(reduction='none', **settings)
    return loss(student, teacher, labels), loss


@pytest.mark.parametrize('tau', [0.5, 1.0, 4.0])
def test_kl_divergence_splits_into_tckd_and_nckd(tau):
    student, teacher, labels = logits(30, 10)
    log_p, log_q = (student / tau).log_softmax(1), (teacher / tau).log_softmax(1)
    kl = (log_q.exp() * (log_q - log_p)).sum(1)
    tckd = aekt_loss(student, teacher, labels, tau=tau, alpha=1, beta=0, gamma=0, reduction='none') / tau**2
    nckd = aekt_loss(student, teacher, labels, tau=tau, alpha=0, beta=1, gamma=0, reduction='none') / tau**2
    doubt = 1 - log_q.exp().gather(1, labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(tckd + doubt * nckd, kl, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('beta', [0.5, 8.0])
def test_without_the_ratio_term_it_is_dkd(beta):
    student, teacher, labels = logits(30, 10)
    tau, own = 4.0, F.one_hot(labels, 10).double()
    p, q = (student / tau).softmax(1), (teacher / tau).softmax(1)
    two_p, two_q = (torch.stack([(x * own).sum(1), (x * (1 - own)).sum(1)], 1) for x in (p, q))
    hat_p, hat_q = ((x - 1e4 * own).log_softmax(1) for x in (student / tau, teacher / tau))
    dkd = tau**2 * (F.kl_div(two_p.log(), two_q, reduction='batchmean')
                    + beta * F.kl_div(hat_p, hat_q.exp(), reduction='batchmean'))
    ours = aekt_loss(student, teacher, labels, tau=tau, alpha=1, beta=beta, gamma=0)
    torch.testing.assert_close(ours, dkd, rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, student), torch.autograd.grad(dkd, student),
                               rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
def test_constants_added_to_the_logits_change_nothing(form):
    student, teacher, labels = logits(10, 8)
    soft = torch.rand(10, 8, generator=torch.Generator().manual_seed(3))
    shift = 100 * torch.randn(2, 10, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for targets in (labels, soft):
        still = aekt_loss(student, teacher, targets, target_form=form, reduction='none')
        moved = aekt_loss(student + shift[0], teacher + shift[1], targets, target_form=form, reduction='none')
        torch.testing.assert_close(moved, still, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(*(torch.autograd.grad(losses.sum(), student) for losses in (moved, still)),
                                   rtol=1e-10, atol=1e-11)


def test_classes_may_be_renumbered():
    student, teacher, labels = logits(10, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(aekt_loss(student[:, order], teacher[:, order], order.argsort()[labels]),
                               aekt_loss(student, teacher, labels))


@pytest.mark.parametrize('topk', [1, 2, 5])
def test_one_hot_labels_equal_indices(topk):
    student, teacher, labels = logits(12, 5)
    hard = aekt_loss(student, teacher, labels, reduction='none')
    for one_hot in (F.one_hot(labels, 5), F.one_hot(labels, 5).float()):
        soft = aekt_loss(student, teacher, one_hot, soft_target_topk=topk, reduction='none')
        torch.testing.assert_close(soft, hard, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*(torch.autograd.grad(losses.sum(), student, retain_graph=True)
                                     for losses in (soft, hard)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('topk', [1, 2, 3, 6])
@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
def test_soft_labels_give_the_expectation_over_the_largest(topk, form):
    student, teacher, _ = logits(7, 6)
    scores = torch.rand(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    shares, classes = scores.topk(topk, dim=1)
    shares = shares / shares.sum(1, keepdim=True)
    settings = dict(target_form=form, reduction='none')
    expected = sum(shares[:, k] * aekt_loss(student, teacher, classes[:, k], **settings) for k in range(topk))
    soft = aekt_loss(student, teacher, scores, soft_target_topk=topk, **settings)
    torch.testing.assert_close(soft, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(*(torch.autograd.grad(losses.sum(), student) for losses in (soft, expected)),
                               rtol=1e-10, atol=1e-11)


def test_two_labels_of_two_classes_leave_no_other_class():
    student, teacher, _ = logits(9, 2, scale=50.0)
    scores = torch.rand(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    losses = [aekt_loss(student, teacher, torch.full((9, ), c), reduction='none') for c in range(2)]
    share = scores / scores.sum(1, keepdim=True)
    soft = aekt_loss(student, teacher, scores, reduction='none')
    torch.testing.assert_close(soft, share[:, 0] * losses[0] + share[:, 1] * losses[1], rtol=1e-11, atol=1e-11)
    mild = (student / 10).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: aekt_loss(u, teacher / 10, scores), mild)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_nckd_of_two_classes_is_exactly_zero(dtype):
    student, teacher, labels = logits(9, 2, scale=300.0, dtype=dtype)
    nckd = aekt_loss(student, teacher, labels, alpha=0, beta=8, gamma=0, reduction='none')
    assert torch.equal(nckd, torch.zeros_like(nckd))
    nckd.sum().backward()
    assert torch.equal(student.grad, torch.zeros_like(student))
    student.grad = None
    aekt_loss(student, teacher, labels).backward()
    assert torch.isfinite(student.grad).all() and student.grad.abs().sum() > 0


def test_equal_networks_have_no_kl_and_a_ratio_of_one():
    student, _, labels = logits(9, 50, dtype=torch.float32)
    losses, loss = statistics(student, student.detach().clone(), labels)
    assert torch.equal(losses, torch.full((9, ), 16.0))
    assert [loss.terms[name].item() for name in ('tckd', 'nckd', 'target', 'ratio')] == [0, 0, 1, 1]


# ---------------------------------------------------------------- pinned values


def test_two_classes_by_hand():
    """p = 1/2 and q = 3/4 at temperature 2: everything is a fraction or its logarithm."""
    student = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    label = torch.tensor([0])
    tckd = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    losses, loss = statistics(student, teacher, label, tau=2.0, alpha=3.0, gamma=5.0)
    assert losses.item() == pytest.approx(4 * (3 * tckd + 5 * 1.5), rel=1e-12)
    # 2 * (3 * (1/2 - 3/4) - 5 * 3/2 * 1/2)
    torch.testing.assert_close(torch.autograd.grad(losses.sum(), student)[0],
                               torch.tensor([[-9.0, 9.0]], dtype=torch.float64))
    bounded = aekt_loss(student, teacher, label, tau=2.0, alpha=0, gamma=1, max_ratio=1.2)
    assert bounded.item() == pytest.approx(4 * 1.2 * (1 + math.log(1.5 / 1.2)), rel=1e-12)
    free = aekt_loss(student, teacher, label, tau=2.0, alpha=0, gamma=1, target_form='no_confidence')
    assert free.item() == 0  # the student's log-odds
    torch.testing.assert_close(torch.autograd.grad(free, student)[0],
                               torch.tensor([[-3.0, 3.0]], dtype=torch.float64))  # 2 * 3/2, without the 1 - p = 1/2


def test_three_classes_by_hand():
    """Student (2/4, 1/4, 1/4), teacher (6/8, 1/8, 1/8 moved to 1.5/8, 0.5/8): p̂ = 1/2, 1/2 and q̂ = 3/4, 1/4."""
    student = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log().requires_grad_()
    teacher = torch.tensor([[12.0, 3.0, 1.0]], dtype=torch.float64).log()
    losses, loss = statistics(student, teacher, torch.tensor([0]), tau=1.0)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    terms = {name: value.item() for name, value in loss.terms.items()}
    assert terms == pytest.approx(dict(tckd=kl, nckd=kl, target=1.5, ratio=1.5, student_confidence=0.5,
                                       teacher_confidence=0.75), rel=1e-12)
    assert losses.item() == pytest.approx(kl + 8 * kl + 1.5, rel=1e-12)
    # target: (1/2 - 3/4) - 3/2 * 1/2; the others: (8 + 1) p̂ - 8 q̂
    torch.testing.assert_close(torch.autograd.grad(losses.sum(), student)[0],
                               torch.tensor([[-1.0, 4.5 - 6.0, 4.5 - 2.0]], dtype=torch.float64))


# ---------------------------------------------------------------- number formats


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('soft', [False, True])
def test_half_precision_logits_are_computed_in_fp32(dtype, soft):
    student, teacher, labels = logits(16, 100, dtype=dtype)
    if soft:
        labels = torch.rand(16, 100, generator=torch.Generator().manual_seed(8)).to(dtype)
    loss = aekt_loss(student, teacher, labels)
    loss.backward()
    full = student.detach().float().requires_grad_()
    expected = aekt_loss(full, teacher.float(), labels)
    expected.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == dtype
    assert torch.equal(loss, expected) and torch.equal(student.grad, full.grad.to(dtype))


def test_fp16_gradients_meet_the_loss_scale_before_they_are_rounded():
    student, teacher, labels = logits(64, 1000, dtype=torch.float16)
    full = student.detach().float().requires_grad_()
    scale = 2.0**12
    (aekt_loss(student, teacher, labels) * scale).backward()
    aekt_loss(full, teacher.float(), labels).backward()
    tiny = (full.grad.abs() > 1e-10) & (full.grad.abs() < 2.0**-26)
    assert tiny.any() and torch.equal(full.grad[tiny].half(), torch.zeros_like(student.grad[tiny]))
    torch.testing.assert_close(student.grad.float()[tiny] / scale, full.grad[tiny], rtol=0.1, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('soft', [False, True])
def test_autocast_changes_nothing(dtype, soft):
    student, teacher, labels = logits(16, 100, dtype=torch.float32)
    if soft:
        labels = torch.rand(16, 100, generator=torch.Generator().manual_seed(9))
    plain = aekt_loss(student, teacher, labels)
    with torch.autocast('cpu', dtype=dtype):
        cast = aekt_loss(student, teacher, labels)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (cast, plain)))


@pytest.mark.parametrize('dtype, size', [(torch.float64, 1e4), (torch.float32, 1e4), (torch.bfloat16, 1e4),
                                         (torch.float16, 1e4)])
@pytest.mark.parametrize('form', ['ratio', 'no_confidence'])
@pytest.mark.parametrize('max_ratio', [2.0, None])
@pytest.mark.parametrize('num_classes', [2, 3, 5])
def test_extreme_logits_stay_finite(dtype, size, form, max_ratio, num_classes):
    """Each class in turn is the one far ahead, or far behind, for the student and for the teacher."""
    peaks = size * torch.cat([torch.eye(num_classes), -torch.eye(num_classes), torch.zeros(1, num_classes)])
    count = len(peaks)
    student = peaks.repeat_interleave(count, 0).to(dtype).requires_grad_()
    teacher = peaks.repeat(count, 1).to(dtype)
    hard = torch.zeros(count**2, dtype=torch.long)
    mixed = torch.tensor([0.6, 0.4] + [0.0] * (num_classes - 2)).repeat(count**2, 1)
    for labels in (hard, mixed):
        for tau in (0.5, 20.0):
            losses = aekt_loss(student, teacher, labels, tau=tau, target_form=form, max_ratio=max_ratio,
                               reduction='none')
            assert torch.isfinite(losses).all()
            gradient, = torch.autograd.grad(losses.sum(), student)
            # fp16 ends at 65504: the bare ratio's honest gradient has no number there
            if max_ratio is not None or dtype != torch.float16:
                assert torch.isfinite(gradient).all()


@pytest.mark.parametrize('which', ['student', 'teacher'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('soft', [False, True])
def test_logits_that_are_no_numbers_give_no_finite_loss(which, value, soft):
    student, teacher, labels = logits()
    if soft:
        labels = torch.rand(5, 6, generator=torch.Generator().manual_seed(12))
    with torch.no_grad():
        (student if which == 'student' else teacher)[2, 3] = value
    finite = torch.isfinite(aekt_loss(student, teacher, labels, reduction='none'))
    assert finite.tolist() == [True, True, False, True, True]


def test_memory_layout_and_mixed_precision_of_the_inputs_do_not_matter():
    student, teacher, labels = logits(6, 6)
    expected, = torch.autograd.grad(aekt_loss(student, teacher, labels), student)
    transposed = student.detach().t().contiguous().t().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(aekt_loss(transposed, teacher.float(), labels.int()), transposed)[0],
                               expected, rtol=1e-5, atol=1e-6)
    shared_row = student[:1].detach().expand(6, -1).requires_grad_()
    repeated = student[:1].detach().repeat(6, 1)
    torch.testing.assert_close(aekt_loss(shared_row, teacher, labels), aekt_loss(repeated, teacher, labels))


def test_inputs_are_left_as_they_were():
    student, teacher, labels = logits()
    before = copy.deepcopy((student, teacher, labels))
    aekt_loss(student, teacher, labels).backward()
    assert all(torch.equal(now, then) for now, then in zip((student, teacher, labels), before))


# ---------------------------------------------------------------- the module


def test_module_is_built_from_a_config_and_equals_the_function():
    settings = dict(tau=3.0, alpha=0.5, beta=2.0, gamma=0.7, target_form='no_confidence', max_ratio=1.5,
                    soft_target_topk=3, reduction='sum')
    loss = MODELS.build(dict(type='mmkd_atsc.AEKTLoss', loss_weight=0.5, **settings))
    student, teacher, _ = logits()
    scores = torch.rand(5, 6, generator=torch.Generator().manual_seed(10))
    torch.testing.assert_close(loss(preds_S=student, preds_T=teacher, gt_labels=scores),
                               0.5 * aekt_loss(student, teacher, scores, **settings))


def test_reductions():
    student, teacher, labels = logits()
    none, total, mean = (AEKTLoss(reduction=name)(student, teacher, labels) for name in ('none', 'sum', 'mean'))
    assert none.shape == (5, )
    torch.testing.assert_close((none.sum(), none.mean()), (total, mean))


def test_loss_weight_is_read_at_each_forward():
    student, teacher, labels = logits()
    loss = AEKTLoss()
    full = loss(student, teacher, labels)
    loss.loss_weight = 0.25
    torch.testing.assert_close(loss(student, teacher, labels), full / 4)
    loss.loss_weight = 0.0
    quiet = loss(student, teacher, labels)
    assert quiet.item() == 0 and quiet.requires_grad


def test_teacher_gets_no_gradient():
    student, teacher, labels = logits()
    teacher.requires_grad_()
    AEKTLoss()(student, teacher, labels).backward()
    assert teacher.grad is None and student.grad is not None


def test_without_gradients_only_the_value_is_computed(monkeypatch):
    student, teacher, labels = logits()
    loss = AEKTLoss()
    value = loss(student, teacher, labels)

    def closed_form_of_values(*args, with_gradient, **kwargs):
        assert not with_gradient
        return closed_form(*args, with_gradient=with_gradient, **kwargs)

    monkeypatch.setattr(aekt_functional, 'closed_form', closed_form_of_values)
    for quiet in (loss(student.detach(), teacher, labels), torch.no_grad()(loss)(student, teacher, labels)):
        assert not quiet.requires_grad and torch.equal(quiet, value)


def test_terms_are_means_that_add_up_to_the_loss():
    student, teacher, labels = logits(40, 10)
    loss = AEKTLoss(tau=4.0, alpha=0.5, beta=2.0, gamma=0.25)
    assert loss.terms == {}
    value = loss(student, teacher, labels)
    terms = loss.terms
    assert list(terms) == ['tckd', 'nckd', 'target', 'ratio', 'student_confidence', 'teacher_confidence']
    assert all(term.dim() == 0 and not term.requires_grad for term in terms.values())
    torch.testing.assert_close(value, 16 * (0.5 * terms['tckd'] + 2 * terms['nckd'] + 0.25 * terms['target']))
    p, q = ((x / 4).softmax(1).gather(1, labels.unsqueeze(1)) for x in (student.detach(), teacher))
    torch.testing.assert_close([terms[name] for name in ('ratio', 'student_confidence', 'teacher_confidence')],
                               [(q / p).mean(), p.mean(), q.mean()])
    assert terms['ratio'] > terms['target']  # the monitored ratio is not bounded


def test_module_has_no_state_and_can_be_copied_after_a_forward():
    student, teacher, labels = logits()
    loss = AEKTLoss()
    value = loss(student, teacher, labels)
    assert not loss.state_dict()
    assert torch.equal(copy.deepcopy(loss)(student, teacher, labels), value)


@pytest.mark.parametrize('soft', [False, True])
def test_nothing_makes_the_host_wait(soft):
    """Tensors on the meta device have no values: whatever would read one, as ``.item()`` does, fails there."""
    student = torch.empty(4, 10, device='meta', requires_grad=True)
    labels = torch.empty(4, 10, device='meta') if soft else torch.empty(4, dtype=torch.long, device='meta')
    loss = AEKTLoss()
    loss(student, torch.empty(4, 10, device='meta'), labels).backward()
    assert student.grad.shape == (4, 10) and all(term.device.type == 'meta' for term in loss.terms.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('soft', [False, True])
def test_gpu_equals_cpu_without_waiting(soft):
    student, teacher, labels = logits(64, 100, dtype=torch.float32)
    if soft:
        labels = torch.rand(64, 100, generator=torch.Generator().manual_seed(11))
    expected, = torch.autograd.grad(aekt_loss(student, teacher, labels), student)
    student, teacher, labels = (x.detach().cuda() for x in (student, teacher, labels))
    student.requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        gradient, = torch.autograd.grad(aekt_loss(student, teacher, labels), student)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(gradient.cpu(), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- refusals

BAD_SETTINGS = [
    (dict(tau=0), ValueError, 'tau=0 must be a number greater than 0'),
    (dict(tau=-1.0), ValueError, 'tau=-1.0'),
    (dict(tau='4'), TypeError, "tau='4'"),
    (dict(alpha=-1), ValueError, 'alpha=-1 must be a number at least 0'),
    (dict(beta=math.nan), ValueError, 'beta=nan'),
    (dict(gamma=None), TypeError, 'gamma=None'),
    (dict(target_form='no_confidense'), ValueError, "'no_confidence'; did you mean 'no_confidence'"),
    (dict(max_ratio=0), ValueError, 'max_ratio=0 must be a number greater than 0'),
    (dict(max_ratio=-2.0), ValueError, 'max_ratio=-2.0'),
    (dict(soft_target_topk=0), ValueError, 'soft_target_topk=0 must be an integer at least 1'),
    (dict(soft_target_topk=2.0), TypeError, 'soft_target_topk=2.0'),
    (dict(reduction='batchmean'), ValueError, "reduction='batchmean' is not one of 'mean', 'sum', 'none'"),
]


def refused(error, message, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('settings, error, message', BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_line(settings, error, message):
    refused(error, message, AEKTLoss, **settings)
    refused(error, message, aekt_loss, *logits(), **settings)


def test_bad_loss_weight_is_refused():
    refused(ValueError, 'loss_weight=-1', AEKTLoss, loss_weight=-1)


Z = torch.zeros
INDICES = Z(4, dtype=torch.long)


@pytest.mark.parametrize('student, teacher, labels, error, message', [
    (Z(4, 1), Z(4, 1), INDICES, ValueError, '(4, 1) must be (N, C) with at least 2 classes'),
    (Z(4), Z(4), INDICES, ValueError, 'student logits of shape (4,) must be (N, C)'),
    (Z(4, 5, 2), Z(4, 5, 2), INDICES, ValueError, '(4, 5, 2) must be (N, C)'),
    (Z(4, 5), Z(4, 6), INDICES, ValueError, '(4, 5) and teacher logits of shape (4, 6) differ'),
    (Z(4, 5), Z(3, 5), INDICES, ValueError, '(4, 5) and teacher logits of shape (3, 5) differ'),
    (Z(4, 5).long(), Z(4, 5), INDICES, TypeError, 'student logits must be floating-point numbers, got torch.int64'),
    (Z(4, 5), Z(4, 5).long(), INDICES, TypeError, 'teacher logits must be floating-point numbers'),
    (Z(4, 5), Z(4, 5), INDICES + 5, ValueError, 'label 5 is out of range: the logits have 5 classes, 0 to 4'),
    (Z(4, 5), Z(4, 5), INDICES - 1, ValueError, 'label -1 is out of range'),
    (Z(4, 5), Z(4, 5), INDICES.float(), TypeError, 'labels of shape (N,) must be integers, got torch.float32'),
    (Z(4, 5), Z(4, 5), INDICES.bool(), TypeError, 'must be integers, got torch.bool'),
    (Z(4, 5), Z(4, 5), INDICES[:3], ValueError, 'labels of shape (3,) must be (4,) class indices or (4, 5) scores'),
    (Z(4, 5), Z(4, 5), INDICES.unsqueeze(1), ValueError, 'labels of shape (4, 1)'),
    (Z(4, 5), Z(4, 5), Z(4, 6), ValueError, 'labels of shape (4, 6)'),
    (Z(4, 5), Z(4, 5), Z(4, 5), ValueError, 'soft labels must be finite, not negative, and hold a positive score'),
    (Z(4, 5), Z(4, 5), Z(4, 5) - 1, ValueError, 'soft labels must be'),
    (Z(1, 3), Z(1, 3), torch.tensor([[2.0, -1.0, 0.0]]), ValueError, 'soft labels must be'),
    (Z(4, 5), Z(4, 5), Z(4, 5) + math.nan, ValueError, 'soft labels must be'),
    (Z(4, 5), Z(4, 5), Z(4, 5) + math.inf, ValueError, 'soft labels must be'),
    (Z(4, 5), Z(4, 5, device='meta'), INDICES, ValueError, 'student logits are on cpu, teacher logits on meta'),
    (Z(4, 5), Z(4, 5), INDICES.to('meta'), ValueError, 'labels are on meta, the logits on cpu'),
])
def test_bad_tensors_are_refused_in_one_line(student, teacher, labels, error, message):
    refused(error, message, AEKTLoss(), student, teacher, labels)
