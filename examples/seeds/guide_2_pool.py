# 003_c003194a68d6ccb9.txt, Example 2
import multiprocessing
import time
def calculate_square(n):
    """Function to calculate the square of a number."""
    time.sleep(0.5) # Simulate some work
    result = n * n
    print(f"Calculated square of {n} = {result}")
    return result
if __name__ == "__main__":
    numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    print("Using a Pool of 4 processes...")
    # Create a pool of 4 worker processes
    with multiprocessing.Pool(processes=4) as pool:
        # pool.map applies the function to every item in the iterable
        # It blocks until all results are ready and returns them in a list
        results = pool.map(calculate_square, numbers)
    print("\nFinal results from pool.map:", results)
    print("Main process finished.")
