"""``python -m agent_manager.mirror``."""

if __name__ == "__main__":
    from agent_manager.mirror.cli import main
    from service.leaving import leave

    # Threads of Google's listener may take their time.
    leave(main())
