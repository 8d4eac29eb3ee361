"""One step of an LSTM, and many windows of one sequence through it.

Axis letters: B clips, T frames, E embedding, S state, G = 4 S gates, W windows, R = rows of several
clips and windows.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssync.device import constant
from mssync.models.maps import GatheredMaps, affine


def lstm_cell(gates_RG: Tensor, cell_RS: Tensor | None) -> tuple[Tensor, Tensor]:
    """State and cell after a step.

    Args:
        gates_RG: Input, forget, cell and output gates before their functions, in torch's order.
        cell_RS: The cell before; None at the start, where it is 0.
    """
    input_RS, forget_RS, new_RS, output_RS = gates_RG.chunk(4, dim=1)
    next_RS = input_RS.sigmoid() * new_RS.tanh()
    if cell_RS is not None:
        next_RS = torch.addcmul(next_RS, forget_RS.sigmoid(), cell_RS)
    return output_RS.sigmoid() * next_RS.tanh(), next_RS


def last_states(lstm: nn.LSTM, embedded_BTE: Tensor, windows: Sequence[tuple[int, int]]) -> Tensor:
    """The state of an LSTM at the end of each window, started anew at the first frame of each.

    Windows that start on the same frame share their steps, and every frame enters the input's map
    once however many windows hold it.

    Args:
        lstm: Of one layer.
        embedded_BTE: Shape (B, T, E).
        windows: First frame and length of each, at least 1; all within T.

    Returns:
        Shape (B, W, S).
    """
    (from_input, from_state, input_bias, state_bias) = lstm.all_weights[0]
    clips = len(embedded_BTE)
    longest = dict[int, int]()
    for start, size in windows:
        longest[start] = max(size, longest.get(start, 0))
    starts = sorted(longest, key=lambda start: (-longest[start], start))
    running = [sum(longest[start] > step for start in starts) for step in range(longest[starts[0]])]
    # contiguous: torch copies a frozen weight for every frame of what is not
    rows_TBG = F.linear(
        embedded_BTE.transpose(0, 1).contiguous(), from_input, input_bias + state_bias
    )
    frames = [start + step for step, count in enumerate(running) for start in starts[:count]]
    every_RBG = rows_TBG.index_select(0, constant(frames, rows_TBG.device))
    maps = GatheredMaps() if torch.is_grad_enabled() else affine
    wanted = set(windows)
    found = dict[tuple[int, int], Tensor]()
    state_RS: Tensor | None = None
    cell_RS: Tensor | None = None
    for step, gates_WBG in enumerate(every_RBG.split(running)):
        gates_RG = gates_WBG.flatten(0, 1)
        if state_RS is not None and cell_RS is not None:
            rows = len(gates_RG)
            gates_RG, cell_RS = maps(state_RS[:rows], from_state, gates_RG), cell_RS[:rows]
        state_RS, cell_RS = lstm_cell(gates_RG, cell_RS)
        for place, start in enumerate(starts[: running[step]]):
            if (start, step + 1) in wanted:
                found[start, step + 1] = state_RS[place * clips : (place + 1) * clips]
    return torch.stack([found[window] for window in windows], dim=1)
