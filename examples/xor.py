"""The smallest net that learns something: exclusive or, by a training loop of one call.

python examples/xor.py
"""

import random

import fastgrad
from fastgrad import nn, optim

X = [[0, 0], [0, 1], [1, 0], [1, 1]]
Y = [0, 1, 1, 0]  # ints, so these are labels: the loss is cross-entropy


def main():
    random.seed(1)
    model = nn.MLP(2, [8, 2], activation="tanh", init="xavier")  # an output for each label
    adam = optim.Adam(model.parameters(), lr=0.05)
    history = fastgrad.fit(model, X, Y, optimizer=adam, epochs=200, progress=False)

    print(f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
    answers = fastgrad.compile(model)(X).argmax(axis=1)
    for (a, b), answer in zip(X, answers):
        print(f"{a} xor {b} = {answer}")


if __name__ == "__main__":
    main()
