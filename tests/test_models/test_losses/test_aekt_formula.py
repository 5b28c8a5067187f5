"""AEKT against an independent formula, sample by sample, in long double."""
import math

import numpy as np
import pytest
import torch

from tests.test_models.test_losses.aekt_cases import aekt_loss


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


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_random_cases_equal_the_formula(dtype):
    """Errors are measured against tau**2 + |loss| for a loss, and tau + the row's largest entry for a gradient: what
    one unit of a term, or of a gradient by the logits over tau, amounts to after the factors of tau. They are counted
    in roundings of the largest number that enters, the logits over tau."""
    worst = {}
    for seed in range(200):
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
        size = 1 + max(student.abs().max().item(), teacher.abs().max().item()) / tau
        worst[seed] = max(loss_error.max(), gradient_error.max()) / size / torch.finfo(dtype).eps
    seed = max(worst, key=lambda s: worst[s] if worst[s] == worst[s] else math.inf)
    assert worst[seed] <= 40, f'case {seed}: {worst[seed]:.1f}'
