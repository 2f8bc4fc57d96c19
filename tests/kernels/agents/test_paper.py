"""The paper's settings are parameters of the agent."""

from mlpapers.kernels import KernelAgent, ScriptedClient, paper_config
from mlpapers.kernels.agents.conductor import WORKFLOWS


def test_paper_config():
    config = paper_config()
    agent = KernelAgent(llm=ScriptedClient([]), **config)
    assert {name: agent.get_params()[name] for name in config} == config
    assert agent.who == "llm"
    # Two islands share three rounds of four.
    assert (config["num_islands"], config["n_candidates"]) == (2, 12)
    assert WORKFLOWS[config["workflow"]].wrong_results == 1
    config["workflow"] = "changed"
    assert paper_config()["workflow"] == "paper"
